//! How often a request is made, and how long is waited in between.
//!
//! Every request that goes through here may be made twice without harm: points have ids of their own.

use std::time::Duration;

use qdrant_client::QdrantError;
use tonic::{Code, Status};

/// A server that was told to slow down its clients may name any time.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Tries of a request, the first one counted.
    pub(super) tries: u32,
    /// The pause after the first one; each further one is twice as long.
    pub(super) pause: Duration,
}

impl Default for Patience {
    /// About fifteen seconds of pauses: a server that is started anew is back by then.
    fn default() -> Self {
        Self {
            tries: 7,
            pause: Duration::from_millis(250),
        }
    }
}

impl Patience {
    /// What `request` gives, made again for as long as it fails for a cause that passes.
    pub(super) async fn ask<T>(
        &self,
        request: impl AsyncFn() -> Result<T, QdrantError>,
    ) -> Result<T, QdrantError> {
        let mut failed = 0;
        loop {
            let error = match request().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            failed += 1;
            match self.pause_after(failed, &error) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error),
            }
        }
    }

    /// How long to wait before the next try, if there is to be one.
    fn pause_after(&self, failed: u32, error: &QdrantError) -> Option<Duration> {
        if failed >= self.tries || !passes(error) {
            return None;
        }
        let pause = self.pause.saturating_mul(1 << (failed - 1).min(16));
        let asked = match error {
            QdrantError::ResourceExhaustedError {
                retry_after_seconds,
                ..
            } => Duration::from_secs(*retry_after_seconds),
            _ => Duration::ZERO,
        };
        Some(pause.max(asked).min(LONGEST_WAIT))
    }
}

/// Whether the cause of an error may be gone a little later.
fn passes(error: &QdrantError) -> bool {
    match error {
        QdrantError::ResourceExhaustedError { .. } => true,
        QdrantError::ResponseError { status } => status_passes(status),
        _ => false,
    }
}

fn status_passes(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted => {
            true
        }
        // What the transport says of its own timeout, and of a connection that broke.
        Code::Cancelled | Code::Unknown => true,
        Code::Internal => is_refused_connection(status),
        _ => false,
    }
}

/// The client has no type of error for this, and no code of its own.
fn is_refused_connection(status: &Status) -> bool {
    status.message().starts_with("Failed to connect")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const QUICK: Patience = Patience {
        tries: 4,
        pause: Duration::from_millis(1),
    };

    fn error(code: Code) -> QdrantError {
        Status::new(code, "a message").into()
    }

    /// How often a request was made that fails with `failures` one after the other.
    fn tries(failures: &[Code]) -> (bool, usize) {
        let made = Cell::new(0);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let answer = runtime.block_on(QUICK.ask(async || {
            let failure = failures.get(made.replace(made.get() + 1));
            failure.map_or(Ok(()), |code| Err(error(*code)))
        }));
        (answer.is_ok(), made.get())
    }

    #[test]
    fn what_passes_is_tried_again() {
        use Code::{DeadlineExceeded, ResourceExhausted, Unavailable};
        assert_eq!(tries(&[]), (true, 1));
        assert_eq!(tries(&[Unavailable]), (true, 2));
        assert_eq!(
            tries(&[Unavailable, DeadlineExceeded, ResourceExhausted]),
            (true, 4)
        );
        assert_eq!(tries(&[Unavailable; 9]), (false, 4));
    }

    #[test]
    fn what_stays_is_not_tried_again() {
        use Code::{InvalidArgument, NotFound, PermissionDenied, Unauthenticated, Unavailable};
        for code in [
            InvalidArgument,
            NotFound,
            PermissionDenied,
            Unauthenticated,
            Code::Internal,
        ] {
            assert_eq!(tries(&[code]), (false, 1));
        }
        assert_eq!(tries(&[Unavailable, InvalidArgument]), (false, 2));
    }

    #[test]
    fn pauses_double_and_heed_what_the_server_asks_for() {
        let patience = Patience::default();
        let pauses: Vec<_> = (1..=7)
            .map(|failed| patience.pause_after(failed, &error(Code::Unavailable)))
            .collect();
        let expected = [250, 500, 1000, 2000, 4000, 8000].map(|ms| Some(Duration::from_millis(ms)));
        assert_eq!(pauses[..6], expected);
        assert_eq!(pauses[6], None);
        let asked = |seconds| QdrantError::ResourceExhaustedError {
            status: Status::new(Code::ResourceExhausted, "slow down"),
            retry_after_seconds: seconds,
        };
        assert_eq!(
            patience.pause_after(1, &asked(3)),
            Some(Duration::from_secs(3))
        );
        assert_eq!(patience.pause_after(1, &asked(4000)), Some(LONGEST_WAIT));
    }

    #[test]
    fn a_refused_connection_passes() {
        let refused = Status::new(Code::Internal, "Failed to connect to http://host: refused");
        assert!(passes(&refused.into()));
    }
}
