//! A UDP socket of one connection, which hears what the network says of its datagrams.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit, UdpSocketState},
};
use tokio::{io::Interest, sync::watch};

/// What the network answered instead of the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoWay {
    /// Nothing listens there on UDP: the port is closed, or the program behind it has ended.
    Refused,
    /// There is no way to that address.
    Unreachable,
}

/// Quinn's own socket is connected to nobody, so the system tells it nothing of closed ports, and a server that has died
/// is one that is slow. This one is connected to the one address that it sends to. What it hears of, it tells, and
/// otherwise behaves as if the datagram had been lost: it says nothing of who sent it (RFC 9000 §14.2.1).
#[derive(Debug)]
pub(crate) struct ConnectedSocket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    heard: watch::Sender<Option<NoWay>>,
}

impl ConnectedSocket {
    /// Connects to `server`. Has to be called inside a tokio runtime.
    pub(crate) fn new(server: SocketAddr) -> io::Result<(Self, watch::Receiver<Option<NoWay>>)> {
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => ([0u8; 4], 0).into(),
            SocketAddr::V6(_) => ([0u16; 8], 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(server)?;
        let state = UdpSocketState::new((&socket).into())?;
        let (heard, hears) = watch::channel(None);
        let socket = Self {
            // The state has made it non-blocking.
            io: tokio::net::UdpSocket::from_std(socket)?,
            state,
            heard,
        };
        Ok((socket, hears))
    }

    /// Waits for what the network says while nothing is sent, which wakes nobody who only reads. Never ends.
    pub(crate) async fn listen(&self) {
        loop {
            if self.io.ready(Interest::ERROR).await.is_err() {
                // The runtime shuts down.
                return std::future::pending().await;
            }
            let taken = self.io.try_io(Interest::ERROR, || {
                self.io.take_error()?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
            });
            if let Ok(error) = taken {
                self.note(&error);
            }
        }
    }

    /// Whether an error is one that the network told.
    fn note(&self, error: &io::Error) -> bool {
        let told = match error.kind() {
            io::ErrorKind::ConnectionRefused => NoWay::Refused,
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => NoWay::Unreachable,
            _ => return false,
        };
        self.heard.send_replace(Some(told));
        true
    }
}

impl AsyncUdpSocket for ConnectedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable(self))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self
            .io
            .try_io(Interest::WRITABLE, || self.state.try_send((&self.io).into(), transmit));
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Err(error) => {
                self.note(&error);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [io::IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            let received = self
                .io
                .try_io(Interest::READABLE, || self.state.recv((&self.io).into(), bufs, meta));
            match received {
                Ok(received) => return Poll::Ready(Ok(received)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock || self.note(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// The socket has one connection, and so one that waits to send.
#[derive(Debug)]
struct Writable(Arc<ConnectedSocket>);

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.io.poll_send_ready(cx)
    }
}
