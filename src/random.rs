//! The one place that takes randomness from the machine.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};

/// Makes random bytes. Part of a [`System`](crate::System).
///
/// They serve as secrets (PKCE, `state`), as names that must be unique, and to spread
/// waits. Outside of tests they must be fit for cryptography.
pub trait Random: fmt::Debug + Send + Sync + 'static {
    /// Fills `bytes`.
    ///
    /// # Errors
    /// When there is no randomness.
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()>;
}

impl<T: Random + ?Sized> Random for Arc<T> {
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
        (**self).fill(bytes)
    }
}

/// The machine's randomness. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that the ban in clippy.toml points to")]
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
        getrandom::fill(bytes).map_err(io::Error::other)
    }
}

/// `N` random bytes.
pub(crate) fn bytes<const N: usize>(random: &dyn Random) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    random
        .fill(&mut bytes)
        .map_err(|error| Error::new(ErrorKind::Internal, "the system gave no randomness").with_source(error))?;
    Ok(bytes)
}

/// A number from 0 up to 1, to spread waits with. A wait that cannot be spread is still
/// right, so without randomness it is the middle.
pub(crate) fn fraction(random: &dyn Random) -> f64 {
    /// The bits that an `f64` has room for.
    const BITS: u32 = 53;
    match bytes(random) {
        Ok(bytes) => (u64::from_le_bytes(bytes) >> (u64::BITS - BITS)) as f64 / (1_u64 << BITS) as f64,
        Err(error) => {
            tracing::warn!(%error, "waits are not spread");
            0.5
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Same(u8);

    impl Random for Same {
        fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
            bytes.fill(self.0);
            Ok(())
        }
    }

    #[derive(Debug)]
    struct Nothing;

    impl Random for Nothing {
        fn fill(&self, _bytes: &mut [u8]) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    #[test]
    fn a_fraction_is_below_one_and_is_spread() {
        assert_eq!(fraction(&Same(0)), 0.0);
        assert!(fraction(&Same(0xff)) < 1.0 && fraction(&Same(0xff)) > 0.999);
        assert!((fraction(&Same(0x80)) - 0.5).abs() < 0.01);
        assert_ne!(fraction(&SystemRandom), fraction(&SystemRandom));
    }

    #[test]
    fn without_randomness_a_secret_is_an_error_and_a_wait_is_not_spread() {
        assert_eq!(bytes::<8>(&Nothing).unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(fraction(&Nothing), 0.5);
    }
}
