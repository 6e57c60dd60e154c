//! Hashes: of streams, and as people write them.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// The SHA-256 of all that is read.
pub(crate) fn sha256(mut reader: impl Read) -> io::Result<[u8; 32]> {
    let mut sha256 = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(sha256.finalize().into()),
            length => sha256.update(&buffer[..length]),
        }
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
