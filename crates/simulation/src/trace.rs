//! The events line by line, and one digest of them.

use std::fmt;

use crate::time::{MS, SEC, Us};

/// A digest of every line; the lines themselves only if requested.
#[derive(Debug)]
pub(crate) struct Trace {
    digest: u64,
    keep: bool,
    lines: Vec<String>,
    count: u64,
    buffer: String,
}

impl Trace {
    pub(crate) fn new(keep: bool) -> Self {
        Self { digest: 0xcbf2_9ce4_8422_2325, keep, lines: Vec::new(), count: 0, buffer: String::new() }
    }

    pub(crate) fn add(&mut self, at: Us, what: fmt::Arguments<'_>) {
        use fmt::Write as _;
        self.buffer.clear();
        // Writing to a String cannot fail.
        let _ = write!(self.buffer, "{:>4}.{:03} {what}", at / SEC, at / MS % 1000);
        self.digest = bytes(self.digest, &at.to_le_bytes());
        self.digest = bytes(self.digest, self.buffer.as_bytes());
        self.count += 1;
        if self.keep {
            self.lines.push(self.buffer.clone());
        }
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }
}

/// FNV-1a over words, which suffices to distinguish two traces.
pub(crate) fn bytes(mut digest: u64, of: &[u8]) -> u64 {
    let mut chunks = of.chunks_exact(8);
    for chunk in &mut chunks {
        let word = u64::from_le_bytes(chunk.try_into().unwrap_or_default());
        digest = (digest ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
    }
    for &byte in chunks.remainder() {
        digest = (digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    digest
}
