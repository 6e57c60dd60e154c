//! One file from the hub into the cache: locked, resumed, checked, and only then under its name.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;

use super::Progress;
use super::cache::{Repository, make_parent};
use super::client::{Client, Stated, TRIES, TRY_LATER, broken, file_path, pause_after};
use super::name::HubModel;
use crate::error::{Error, Result};
use crate::hex::{git_sha1, hex, sha256};

/// What is read and written at once.
const CHUNK: usize = 1 << 17;

/// Fetches files of one commit.
pub(super) struct Download<'a> {
    pub(super) client: &'a Client,
    pub(super) repository: &'a Repository,
    pub(super) model: &'a HubModel,
    pub(super) commit: &'a str,
    pub(super) notice: fn(&str),
    pub(super) progress: &'a mut dyn FnMut(&Progress<'_>),
}

/// How an attempt to read to the end went.
enum End {
    Reached,
    /// The connection broke, after so many bytes.
    Cut(u64, io::Error),
}

impl Download<'_> {
    /// Makes a file part of the commit's folder. Another program that fetches the same content is waited for.
    pub(super) fn fetch(&mut self, file: &str) -> Result<()> {
        let stated = self.client.stated(self.model, self.commit, file)?;
        let blob = self.repository.blob(&stated.hash);
        if !blob.is_file() {
            let _lock = self.lock(&stated.hash, file)?;
            if !blob.is_file() {
                make_parent(&blob).map_err(Error::write(&blob))?;
                self.complete(file, &stated, &blob)?;
            }
        }
        self.repository.link(&stated.hash, self.commit, file)
    }

    /// The lock of a content, which ends with the file that is handed back, and with this program.
    fn lock(&self, hash: &str, name: &str) -> Result<File> {
        let path = self.repository.lock(hash);
        let open = || {
            make_parent(&path)?;
            let file = OpenOptions::new().create(true).append(true).open(&path)?;
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => {}
            }
            (self.notice)(&format!("waiting for another program that fetches {name}"));
            file.lock()?;
            Ok(file)
        };
        open().map_err(Error::write(&path))
    }

    /// Fetches what is not there yet of a content, checks it, and gives it its name.
    fn complete(&mut self, name: &str, stated: &Stated, blob: &Path) -> Result<()> {
        let partial = incomplete(blob);
        let unwritten = || Error::write(&partial);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false);
        let mut file = file.open(&partial).map_err(unwritten())?;
        let had = file.metadata().map_err(unwritten())?.len();
        let mut is_resumed = had > 0;
        if had > stated.size {
            file.set_len(0).map_err(unwritten())?;
        }
        loop {
            self.fill(name, stated, &mut file, &partial)?;
            let found = self
                .hash(&mut file, stated)
                .map_err(Error::read(&partial))?;
            if found == stated.hash {
                break;
            }
            if !is_resumed {
                let _ = fs::remove_file(&partial);
                let problem = format!("its content has the hash {found}, expected {}", stated.hash);
                return Err(broken(&self.path(name), problem, TRY_LATER));
            }
            // What an earlier program left may have been damaged: from the start, then.
            is_resumed = false;
            file.set_len(0).map_err(unwritten())?;
        }
        file.sync_all().map_err(unwritten())?;
        fs::rename(&partial, blob).map_err(Error::write(blob))
    }

    /// Appends to `file` until it is as long as stated, however often the connection breaks while bytes come.
    fn fill(&mut self, name: &str, stated: &Stated, file: &mut File, partial: &Path) -> Result<()> {
        let mut in_vain = 0;
        loop {
            let have = file.metadata().map_err(Error::read(partial))?.len();
            (self.progress)(&Progress {
                file: name,
                done: have,
                size: stated.size,
            });
            if have == stated.size {
                return Ok(());
            }
            let content = self.client.content(self.model, self.commit, name, have)?;
            let from = content.from;
            let placed = match from == have {
                true => file.seek(SeekFrom::End(0)).map(|_| ()),
                false => file
                    .set_len(from)
                    .and_then(|()| file.seek(SeekFrom::Start(from)).map(|_| ())),
            };
            placed.map_err(Error::write(partial))?;
            match self.append(name, stated, from, content.reader, file, partial)? {
                End::Reached => {}
                End::Cut(0, source) if in_vain + 1 == TRIES => {
                    let problem = format!(
                        "the connection breaks at byte {from} of {}: {source}",
                        stated.size
                    );
                    return Err(broken(&self.path(name), problem, TRY_LATER));
                }
                End::Cut(0, _) => {
                    in_vain += 1;
                    thread::sleep(pause_after(in_vain));
                }
                End::Cut(..) => in_vain = 0,
            }
        }
    }

    /// Writes what comes behind byte `from`.
    fn append(
        &mut self,
        name: &str,
        stated: &Stated,
        from: u64,
        reader: Box<dyn Read>,
        file: &mut File,
        partial: &Path,
    ) -> Result<End> {
        // A byte more than is stated is one too many.
        let mut reader = reader.take(stated.size - from + 1);
        let mut buffer = vec![0; CHUNK];
        let mut done = from;
        loop {
            let length = match reader.read(&mut buffer) {
                Ok(0) if done == stated.size => return Ok(End::Reached),
                Ok(0) => return Ok(End::Cut(done - from, io::ErrorKind::UnexpectedEof.into())),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // All is there; what comes behind it does not matter.
                Err(_) if done == stated.size => return Ok(End::Reached),
                Err(error) => return Ok(End::Cut(done - from, error)),
            };
            if done + length as u64 > stated.size {
                let _ = fs::remove_file(partial);
                let problem = format!(
                    "more than the {} bytes come that were announced",
                    stated.size
                );
                return Err(broken(&self.path(name), problem, TRY_LATER));
            }
            file.write_all(&buffer[..length])
                .map_err(Error::write(partial))?;
            done += length as u64;
            (self.progress)(&Progress {
                file: name,
                done,
                size: stated.size,
            });
        }
    }

    /// The hash of a file, of the kind that is stated: SHA-256 has 64 digits, git's SHA-1 has 40.
    fn hash(&self, file: &mut File, stated: &Stated) -> io::Result<String> {
        file.rewind()?;
        Ok(match stated.hash.len() {
            64 => hex(&sha256(file)?),
            _ => hex(&git_sha1(file, stated.size)?),
        })
    }

    fn path(&self, file: &str) -> String {
        file_path(self.model, self.commit, file)
    }
}

/// The name of a content that is not whole yet; other programs of the hub call it the same.
fn incomplete(blob: &Path) -> PathBuf {
    let mut name = blob.as_os_str().to_owned();
    name.push(".incomplete");
    name.into()
}
