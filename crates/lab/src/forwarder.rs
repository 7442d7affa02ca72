//! A TCP forwarder in front of each downstream: one address for the whole life of a
//! lab, and a place where faults can be made without touching what is behind it.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

/// What a forwarder does with connections and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: bytes pass both ways.
    #[default]
    None,
    /// Ends all connections, even if the fault is over at once, and each new one
    /// while it lasts.
    Cut,
    /// Bytes towards the client arrive this much later; those towards the server pass.
    Delay(Duration),
    /// No byte passes either way, nor does the end of a connection: they stay open.
    /// What was held passes when the fault ends.
    Hold,
}

/// Hears what the client of one connection sends, before the server gets it.
pub(crate) type Listener = Box<dyn FnMut(&[u8]) + Send>;

/// What connections look at.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    fault: Fault,
    /// How many cuts there were: who looks at `fault` only after the next one was
    /// set must learn of a cut, too.
    cuts: u64,
}

/// A listener on 127.0.0.1 that forwards to another address. Dropping it ends its connections.
#[derive(Debug)]
pub struct Forwarder {
    address: SocketAddr,
    state: watch::Sender<State>,
    /// How many connections there are.
    open: watch::Sender<usize>,
    _accepting: AbortOnDropHandle<()>,
}

impl Forwarder {
    /// Starts forwarding to `upstream`, `host:port`. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start(upstream: impl Into<String>) -> io::Result<Self> {
        Self::start_heard(upstream, || Box::new(|_: &[u8]| {})).await
    }

    /// [`Forwarder::start`] with a listener for each connection.
    ///
    /// # Errors
    /// If no port can be bound.
    pub(crate) async fn start_heard(
        upstream: impl Into<String>,
        listeners: impl Fn() -> Listener + Send + 'static,
    ) -> io::Result<Self> {
        let upstream = upstream.into();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (state, states) = watch::channel(State::default());
        let open = watch::Sender::new(0);
        let counted = open.clone();
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                match listener.accept().await {
                    Ok((client, _)) => {
                        let cuts = states.borrow().cuts;
                        let (upstream, states) = (upstream.clone(), states.clone());
                        let one = Counted::new(counted.clone());
                        let heard = listeners();
                        connections.spawn(async move {
                            forward(client, upstream, states, cuts, heard).await;
                            drop(one);
                        });
                    }
                    // Out of file descriptors, say: the next attempt may succeed.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            address,
            state,
            open,
            _accepting: AbortOnDropHandle::new(accepting),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections there are: those that neither side has ended, or only one.
    pub fn open(&self) -> usize {
        *self.open.borrow()
    }

    /// Waits until there are at most `count` connections.
    pub async fn wait_for_open(&self, count: usize) {
        // Fails only if the sender is gone, which is a part of `self`.
        let _ = self.open.subscribe().wait_for(|open| *open <= count).await;
    }

    /// Makes a fault, or ends one with [`Fault::None`]. Holds for the connections there are
    /// and for new ones.
    pub fn set(&self, fault: Fault) {
        self.state.send_modify(|state| {
            state.fault = fault;
            state.cuts += u64::from(fault == Fault::Cut);
        });
    }
}

/// One connection in the count of those that are open.
struct Counted(watch::Sender<usize>);

impl Counted {
    fn new(open: watch::Sender<usize>) -> Self {
        open.send_modify(|open| *open += 1);
        Self(open)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

/// A port on 127.0.0.1 that refuses connections as long as this lives: what a
/// client meets where a service is not running.
#[derive(Debug)]
pub struct Refusing {
    address: SocketAddr,
    // Bound, so that nobody else gets the port, but it doesn't listen.
    _socket: TcpSocket,
}

impl Refusing {
    /// Takes a port.
    ///
    /// # Errors
    /// If none can be bound.
    pub fn start() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok(Self {
            address: socket.local_addr()?,
            _socket: socket,
        })
    }

    /// The address that refuses.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Forwards one connection, taken when there had been `cuts` cuts.
async fn forward(
    client: TcpStream,
    upstream: String,
    states: watch::Receiver<State>,
    cuts: u64,
    heard: Listener,
) {
    let mut watched = states.clone();
    let both = async {
        let Ok(server) = TcpStream::connect(&upstream).await else {
            return;
        };
        // Small frames go at once: otherwise the forwarder's own delay would show.
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::join!(
            copy(from_client, to_server, states.clone(), cuts, false, heard),
            copy(from_server, to_client, states.clone(), cuts, true, |_| {}),
        );
    };
    let cut = watched.wait_for(|state| state.fault == Fault::Cut || state.cuts != cuts);
    tokio::select! {
        biased;
        _ = cut => {}
        () = both => {}
    }
}

/// Passes bytes one way until that side ends, then ends the other.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut states: watch::Receiver<State>,
    cuts: u64,
    delayed: bool,
    mut heard: impl FnMut(&[u8]),
) {
    // Reading goes on while earlier bytes wait, so that a delay adds once and not
    // for each piece. The bound keeps a held connection small.
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(64);
    let read = async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let piece = (Instant::now(), buffer[..length].to_vec());
            if sender.send(piece).await.is_err() {
                return;
            }
        }
        // The end is a piece, an empty one: faults hold for it as well.
        let _ = sender.send((Instant::now(), Vec::new())).await;
    };
    let write = async move {
        while let Some((arrived, piece)) = pieces.recv().await {
            loop {
                let state = *states.borrow_and_update();
                // A cut can come while this is running: what was delayed or held until
                // then is lost with the connection.
                if state.fault == Fault::Cut || state.cuts != cuts {
                    return;
                }
                match state.fault {
                    Fault::Delay(delay) if delayed => {
                        let due = tokio::time::sleep_until(arrived + delay);
                        tokio::select! {
                            () = due => break,
                            changed = states.changed() => if changed.is_err() { return },
                        }
                    }
                    Fault::Hold => {
                        if states.changed().await.is_err() {
                            return;
                        }
                    }
                    _ => break,
                }
            }
            if piece.is_empty() {
                let _ = to.shutdown().await;
                return;
            }
            heard(&piece);
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}
