//! One file from the hub into the cache: locked, resumed, checked, and only then under its name.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;

use super::Progress;
use super::cache::{Repository, make_parent};
use super::client::{
    Client, Content, REPORT, Stated, TRIES, TRY_LATER, broken, file_path, pause_after,
};
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

/// A content on its way: what of it is on the disk, under a name that says that it is not whole.
struct Partial<'a> {
    /// The file's name in the repository.
    name: &'a str,
    stated: &'a Stated,
    path: PathBuf,
    file: File,
}

/// How far an answer to a request brought a content.
enum End {
    Reached,
    /// The connection broke, where so many bytes were there.
    Cut(u64, io::Error),
}

impl Download<'_> {
    /// Makes a file part of the commit's folder. Another program that fetches the same content is waited for.
    pub(super) fn fetch(&mut self, name: &str) -> Result<()> {
        let stated = self.client.stated(self.model, self.commit, name)?;
        let blob = self.repository.blob(&stated.hash);
        if !blob.is_file() {
            let _lock = self.lock(&stated.hash, name)?;
            if !blob.is_file() {
                self.complete(Partial::open(name, &stated, &blob)?, &blob)?;
            }
        }
        self.repository.link(&stated.hash, self.commit, name)
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
    fn complete(&mut self, mut partial: Partial<'_>, blob: &Path) -> Result<()> {
        let mut is_resumed = partial.length()? > 0;
        loop {
            self.fill(&mut partial)?;
            let found = partial.hash()?;
            if found == partial.stated.hash {
                return partial.finish(blob);
            }
            if !is_resumed {
                let expected = &partial.stated.hash;
                let problem = format!("its content has the hash {found}, expected {expected}");
                return Err(self.given_up(&partial, problem));
            }
            // What an earlier program left may have been damaged: from the start, then.
            is_resumed = false;
            partial.cut(0)?;
        }
    }

    /// Fetches until as much is there as is stated, however often the connection breaks while bytes come.
    fn fill(&mut self, partial: &mut Partial<'_>) -> Result<()> {
        let (name, size) = (partial.name, partial.stated.size);
        let mut in_vain = 0;
        // A server that knows no ranges begins anew each time: only what goes further than before counts.
        let mut furthest = partial.length()?;
        loop {
            let done = partial.length()?;
            (self.progress)(&Progress {
                file: name,
                done,
                size,
            });
            if done == size {
                return Ok(());
            }
            let content = self.client.content(self.model, self.commit, name, done)?;
            partial.cut(content.from)?;
            match self.append(partial, content)? {
                End::Reached => {}
                End::Cut(at, _) if at > furthest => (in_vain, furthest) = (0, at),
                End::Cut(at, source) if in_vain + 1 == TRIES => {
                    let problem = format!("the connection breaks at byte {at} of {size}: {source}");
                    return Err(broken(&self.path(name), problem, TRY_LATER));
                }
                End::Cut(..) => {
                    in_vain += 1;
                    thread::sleep(pause_after(in_vain));
                }
            }
        }
    }

    /// Writes what comes to the end of what is there.
    fn append(&mut self, partial: &mut Partial<'_>, content: Content) -> Result<End> {
        let Content { from, reader } = content;
        let size = partial.stated.size;
        // A byte more than is stated is one too many.
        let mut reader = reader.take((size - from).saturating_add(1));
        let mut buffer = vec![0; CHUNK];
        let mut done = from;
        loop {
            let length = match reader.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // All is there; how the connection ends does not matter.
                Ok(0) | Err(_) if done == size => return Ok(End::Reached),
                Ok(0) => return Ok(End::Cut(done, io::ErrorKind::UnexpectedEof.into())),
                Err(error) => return Ok(End::Cut(done, error)),
                Ok(length) => length,
            };
            done += length as u64;
            if done > size {
                let problem = format!("more than the {size} bytes come that were announced");
                return Err(self.given_up(partial, problem));
            }
            let written = partial.file.write_all(&buffer[..length]);
            written.map_err(Error::write(&partial.path))?;
            (self.progress)(&Progress {
                file: partial.name,
                done,
                size,
            });
        }
    }

    /// The error that a content is of no use, of which nothing is kept.
    fn given_up(&self, partial: &Partial<'_>, problem: String) -> Error {
        let _ = fs::remove_file(&partial.path);
        broken(&self.path(partial.name), problem, REPORT)
    }

    fn path(&self, name: &str) -> String {
        file_path(self.model, self.commit, name)
    }
}

impl<'a> Partial<'a> {
    /// What of `blob` an earlier program has left, if it can be a part of it. Other programs of the hub call it the same.
    fn open(name: &'a str, stated: &'a Stated, blob: &Path) -> Result<Self> {
        let mut path = blob.as_os_str().to_owned();
        path.push(".incomplete");
        let path = PathBuf::from(path);
        make_parent(&path).map_err(Error::write(&path))?;
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(Error::write(&path))?;
        let mut partial = Self {
            name,
            stated,
            path,
            file,
        };
        if partial.length()? > stated.size {
            partial.cut(0)?;
        }
        Ok(partial)
    }

    /// Bytes that are there.
    fn length(&self) -> Result<u64> {
        let metadata = self.file.metadata();
        Ok(metadata.map_err(Error::read(&self.path))?.len())
    }

    /// Leaves the first `length` bytes, behind which is written next.
    fn cut(&mut self, length: u64) -> Result<()> {
        let mut cut = || {
            self.file.set_len(length)?;
            self.file.seek(SeekFrom::Start(length))
        };
        cut().map(|_| ()).map_err(Error::write(&self.path))
    }

    /// The hash of what is on the disk, of the kind that is stated: SHA-256 has 64 digits, git's SHA-1 has 40.
    fn hash(&mut self) -> Result<String> {
        let (file, stated) = (&mut self.file, self.stated);
        let hash = || {
            file.rewind()?;
            Ok(match stated.hash.len() {
                64 => hex(&sha256(file)?),
                _ => hex(&git_sha1(file, stated.size)?),
            })
        };
        hash().map_err(Error::read(&self.path))
    }

    /// Gives it its name, once it is on the disk for good.
    fn finish(self, blob: &Path) -> Result<()> {
        self.file.sync_all().map_err(Error::write(&self.path))?;
        // An open file cannot be renamed everywhere.
        drop(self.file);
        fs::rename(&self.path, blob).map_err(Error::write(blob))
    }
}
