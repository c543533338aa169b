//! Signals of the operating system: being asked to stop.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears SIGTERM and SIGINT from the moment it is made, instead of dying of them.
///
/// Real only: a simulated node is stopped by its simulation.
#[derive(Debug)]
pub struct ShutdownSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl ShutdownSignals {
    /// Begins to listen. Must be called inside a tokio runtime with sockets (its reactor carries
    /// signals), and from then on the process does not die of these signals any more.
    pub fn listen() -> io::Result<ShutdownSignals> {
        Ok(ShutdownSignals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Returns the name of the next signal. A second call hears a second signal, by which a
    /// user may say that they do not want to wait for an orderly end.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::ShutdownSignals;

    #[tokio::test]
    async fn both_signals_are_heard_and_do_not_kill() {
        let mut signals = ShutdownSignals::listen().unwrap();
        kill_process(getpid(), Signal::TERM).unwrap();
        assert_eq!(signals.next().await, "SIGTERM");
        kill_process(getpid(), Signal::INT).unwrap();
        assert_eq!(signals.next().await, "SIGINT");
    }
}
