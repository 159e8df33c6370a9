//! Writes standard output in a separate thread: a slow or closed reader delays neither the
//! subscriptions nor their end.

use std::io::{self, BufWriter, Write};

use tokio::sync::{mpsc, oneshot};

/// Maximum number of queued lines. Beyond it the stream is not read, and the subscription's bounded
/// queue takes over.
const WAITING: usize = 1024;

/// Accepts lines. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Output(mpsc::Sender<String>);

/// Standard output is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// Reports how the writing ended, once every [`Output`] is dropped or the reader is gone.
pub(crate) struct Written(oneshot::Receiver<io::Result<()>>);

/// Starts writing to `to`.
pub(crate) fn start(to: impl Write + Send + 'static) -> (Output, Written) {
    let (lines, waiting) = mpsc::channel(WAITING);
    let (done, written) = oneshot::channel();
    // Not joined: a blocked write never ends and must not delay the exit.
    std::thread::spawn(move || {
        let outcome = write_all(waiting, to);
        // The receiver may be gone.
        let _ = done.send(outcome);
    });
    (Output(lines), Written(written))
}

/// Writes available lines at once: a line is only buffered while more lines are queued.
fn write_all(mut waiting: mpsc::Receiver<String>, to: impl Write) -> io::Result<()> {
    let mut to = BufWriter::with_capacity(1 << 16, to);
    while let Some(line) = waiting.blocking_recv() {
        writeln!(to, "{line}")?;
        while let Ok(line) = waiting.try_recv() {
            writeln!(to, "{line}")?;
        }
        to.flush()?;
    }
    Ok(())
}

impl Output {
    /// Queues a line; waits while the queue is full. Cancel safe: the line is queued whole or not
    /// at all.
    pub(crate) async fn line(&self, line: String) -> Result<(), Gone> {
        self.0.send(line).await.map_err(|_| Gone)
    }

    /// Waits until the reader is gone.
    pub(crate) async fn gone(&self) {
        self.0.closed().await;
    }
}

impl Written {
    /// Waits until everything is written, or cannot be.
    pub(crate) async fn finished(self) -> io::Result<()> {
        match self.0.await {
            Ok(outcome) => outcome,
            Err(_) => Err(io::Error::other("the writer of standard output panicked")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn every_line_is_written_in_order_before_the_end() {
        let to = Shared::default();
        let (output, written) = start(to.clone());
        for number in 0..5000 {
            output.line(number.to_string()).await.unwrap();
        }
        drop(output);
        written.finished().await.unwrap();
        let text = String::from_utf8(to.0.lock().unwrap().clone()).unwrap();
        assert!(text.lines().map(str::to_owned).eq((0..5000).map(|number| number.to_string())));
    }

    #[tokio::test]
    async fn a_closed_reader_is_noticed() {
        let (output, written) = start(Closed);
        output.line("x".into()).await.unwrap();
        output.gone().await;
        assert_eq!(output.line("y".into()).await, Err(Gone));
        assert_eq!(written.finished().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
