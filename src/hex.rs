//! Hashes: of streams, and as people write them.

use std::io::{self, Read};

use sha1::Sha1;
use sha2::digest::Output;
use sha2::{Digest, Sha256};

/// The SHA-256 of all that is read.
pub(crate) fn sha256(reader: impl Read) -> io::Result<[u8; 32]> {
    digest(Sha256::new(), reader).map(Into::into)
}

/// The SHA-1 that git names a file of `size` bytes by.
pub(crate) fn git_sha1(reader: impl Read, size: u64) -> io::Result<[u8; 20]> {
    let header = Sha1::new_with_prefix(format!("blob {size}\0"));
    digest(header, reader).map(Into::into)
}

fn digest<D: Digest>(mut hash: D, mut reader: impl Read) -> io::Result<Output<D>> {
    let mut buffer = vec![0; 1 << 18];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hash.finalize()),
            length => hash.update(&buffer[..length]),
        }
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_named_as_git_names_them() {
        // What `printf hello | git hash-object --stdin` prints.
        let name = git_sha1(&b"hello"[..], 5).unwrap();
        assert_eq!(hex(&name), "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0");
    }
}
