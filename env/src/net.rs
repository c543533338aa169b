//! TCP: the machine's, or turmoil's simulated one (feature `sim`).
//!
//! Streams and halves are tokio's `AsyncRead` and `AsyncWrite`.
//! A real stream belongs to the runtime it was made in. To hand one to another shard's thread,
//! [`TcpStream::detach`] it, send the [`DetachedStream`], and [`DetachedStream::attach`] it there:
//! so one acceptor per listener serves all shards, evenly, and can choose by port.
//!
//! In simulation addresses are turmoil's (one per host), a listener binds the unspecified
//! address or loopback, and socket options do nothing.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[cfg(test)]
mod tests;

/// Makes listeners and connections; cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Net(Side);

#[derive(Clone, Copy, Debug)]
enum Side {
    Real,
    #[cfg(feature = "sim")]
    Sim,
}

impl Net {
    /// The machine's network.
    pub fn real() -> Net {
        Net(Side::Real)
    }

    /// The network of the turmoil simulation in which it is used.
    #[cfg(feature = "sim")]
    pub fn simulated() -> Net {
        Net(Side::Sim)
    }

    /// Listens on an address; port 0 lets the system choose. An address whose former listener's
    /// connections linger can be bound at once (`SO_REUSEADDR`).
    pub async fn bind(&self, address: SocketAddr) -> io::Result<TcpListener> {
        match self.0 {
            Side::Real => tokio::net::TcpListener::bind(address).await.map(TcpListener::Real),
            #[cfg(feature = "sim")]
            Side::Sim => turmoil::net::TcpListener::bind(address).await.map(TcpListener::Sim),
        }
    }

    /// Connects to an address. There is no limit of time but the system's: set one around it.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        match self.0 {
            Side::Real => tokio::net::TcpStream::connect(address).await.map(TcpStream::Real),
            #[cfg(feature = "sim")]
            Side::Sim => turmoil::net::TcpStream::connect(address).await.map(TcpStream::Sim),
        }
    }

    /// The addresses of a host, by name or by number, never empty. Real names are looked up off
    /// this thread, since the system's resolver blocks.
    pub async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let addresses: Vec<SocketAddr> = match self.0 {
            Side::Real => {
                let host = host.to_owned();
                let look_up = move || {
                    std::net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), port))
                        .map(Iterator::collect)
                };
                crate::Tasks::real().run_blocking(look_up).await?
            }
            #[cfg(feature = "sim")]
            Side::Sim => turmoil::net::lookup_host((host, port)).await?.collect(),
        };
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address")));
        }
        Ok(addresses)
    }
}

/// The name of this host, as its system has it; a simulation has none of its own.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Accepts connections.
pub enum TcpListener {
    /// Of the machine.
    Real(tokio::net::TcpListener),
    /// Of a simulated host.
    #[cfg(feature = "sim")]
    Sim(turmoil::net::TcpListener),
}

impl TcpListener {
    /// The next connection and its peer. An error is of that connection or of the moment (too
    /// many open files): the listener stands, and the caller waits a little before the next.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match self {
            TcpListener::Real(listener) => {
                listener.accept().await.map(|(stream, peer)| (TcpStream::Real(stream), peer))
            }
            #[cfg(feature = "sim")]
            TcpListener::Sim(listener) => {
                listener.accept().await.map(|(stream, peer)| (TcpStream::Sim(stream), peer))
            }
        }
    }

    /// The address it listens on, with the port that was chosen.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            TcpListener::Real(listener) => listener.local_addr(),
            #[cfg(feature = "sim")]
            TcpListener::Sim(listener) => listener.local_addr(),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub enum TcpStream {
    /// Of the machine.
    Real(tokio::net::TcpStream),
    /// Between simulated hosts.
    #[cfg(feature = "sim")]
    Sim(turmoil::net::TcpStream),
}

impl TcpStream {
    /// The address of the other end.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            TcpStream::Real(stream) => stream.peer_addr(),
            #[cfg(feature = "sim")]
            TcpStream::Sim(stream) => stream.peer_addr(),
        }
    }

    /// The address of this end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            TcpStream::Real(stream) => stream.local_addr(),
            #[cfg(feature = "sim")]
            TcpStream::Sim(stream) => stream.local_addr(),
        }
    }

    /// Whether small writes go out at once (`TCP_NODELAY`), as answers to requests should.
    pub fn set_nodelay(&self, is_on: bool) -> io::Result<()> {
        match self {
            TcpStream::Real(stream) => stream.set_nodelay(is_on),
            #[cfg(feature = "sim")]
            TcpStream::Sim(stream) => stream.set_nodelay(is_on),
        }
    }

    /// Acknowledges what has come by now, where the system can be asked to (`TCP_QUICKACK`). One that
    /// gathers its small writes (Nagle's algorithm) sends the end of a request only when what it
    /// sent before is acknowledged, and systems put that off by 40 ms.
    pub fn acknowledge(&self) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            TcpStream::Real(stream) => stream.set_quickack(true),
            #[cfg(not(target_os = "linux"))]
            TcpStream::Real(_) => Ok(()),
            #[cfg(feature = "sim")]
            TcpStream::Sim(_) => Ok(()),
        }
    }

    /// Two halves that may live in two tasks. Dropping the write half ends that direction.
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        match self {
            TcpStream::Real(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Real(read), WriteHalf::Real(write))
            }
            #[cfg(feature = "sim")]
            TcpStream::Sim(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Sim(read), WriteHalf::Sim(write))
            }
        }
    }

    /// Takes the connection out of its runtime, to be sent to another thread.
    pub fn detach(self) -> io::Result<DetachedStream> {
        match self {
            TcpStream::Real(stream) => stream.into_std().map(Detached::Real),
            #[cfg(feature = "sim")]
            TcpStream::Sim(stream) => Ok(Detached::Sim(stream)),
        }
        .map(DetachedStream)
    }
}

/// A connection between two runtimes.
#[derive(Debug)]
pub struct DetachedStream(Detached);

#[derive(Debug)]
enum Detached {
    Real(std::net::TcpStream),
    #[cfg(feature = "sim")]
    Sim(turmoil::net::TcpStream),
}

impl DetachedStream {
    /// Puts the connection into the runtime this is called in; outside of one it panics.
    pub fn attach(self) -> io::Result<TcpStream> {
        match self.0 {
            // It came out of a runtime, so it does not block: `from_std` requires that.
            Detached::Real(stream) => tokio::net::TcpStream::from_std(stream).map(TcpStream::Real),
            #[cfg(feature = "sim")]
            Detached::Sim(stream) => Ok(TcpStream::Sim(stream)),
        }
    }
}

/// The reading half of a connection.
#[derive(Debug)]
pub enum ReadHalf {
    /// Of the machine.
    Real(tokio::net::tcp::OwnedReadHalf),
    /// Between simulated hosts.
    #[cfg(feature = "sim")]
    Sim(turmoil::net::tcp::OwnedReadHalf),
}

/// The writing half of a connection.
#[derive(Debug)]
pub enum WriteHalf {
    /// Of the machine.
    Real(tokio::net::tcp::OwnedWriteHalf),
    /// Between simulated hosts.
    #[cfg(feature = "sim")]
    Sim(turmoil::net::tcp::OwnedWriteHalf),
}

/// Calls a poll function of whichever side a type holds.
macro_rules! on_either_side {
    ($self:ident, $type:ident, $trait:ident::$call:ident($($argument:expr),*)) => {
        match $self.get_mut() {
            $type::Real(inner) => $trait::$call(Pin::new(inner), $($argument),*),
            #[cfg(feature = "sim")]
            $type::Sim(inner) => $trait::$call(Pin::new(inner), $($argument),*),
        }
    };
}

macro_rules! implement_read {
    ($type:ident) => {
        impl AsyncRead for $type {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                on_either_side!(self, $type, AsyncRead::poll_read(context, buffer))
            }
        }
    };
}

macro_rules! implement_write {
    ($type:ident) => {
        impl AsyncWrite for $type {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                on_either_side!(self, $type, AsyncWrite::poll_write(context, bytes))
            }

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                on_either_side!(self, $type, AsyncWrite::poll_flush(context))
            }

            fn poll_shutdown(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                on_either_side!(self, $type, AsyncWrite::poll_shutdown(context))
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                parts: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                on_either_side!(self, $type, AsyncWrite::poll_write_vectored(context, parts))
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    $type::Real(inner) => inner.is_write_vectored(),
                    #[cfg(feature = "sim")]
                    $type::Sim(inner) => inner.is_write_vectored(),
                }
            }
        }
    };
}

implement_read!(TcpStream);
implement_read!(ReadHalf);
implement_write!(TcpStream);
implement_write!(WriteHalf);
