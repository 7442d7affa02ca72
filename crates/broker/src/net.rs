//! The network side: accepts connections and moves bytes between sockets and sessions.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Config;
use crate::connection::Phase;
use crate::frames;
use crate::state::Shared;
use crate::wire::{Handle, Session, Wakers};

/// How much is read at once.
const READ_BYTES: usize = 64 << 10;

/// Accepts connections until `stop` is cancelled.
pub(crate) async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => {
                let (shared, stop) = (Arc::clone(&shared), stop.clone());
                tasks.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = serve(socket, shared) => {}
                    }
                });
            }
            Err(error) => {
                // Most likely there are no file descriptors left. A pause keeps the
                // loop from spinning until there are.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Serves one client until its connection has ended.
async fn serve(mut socket: TcpStream, shared: Arc<Shared>) {
    // Confirms and deliveries are small and someone waits for them.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let config = shared.config.clone();
    let mut session = Session::new(shared);
    let handle = session.handle();
    let Some(wakers) = handle.wakers() else {
        return;
    };
    let (reader, writer) = socket.split();
    let both = async {
        tokio::join!(
            async {
                read(reader, &mut session, &wakers.reader).await;
                handle.lose();
            },
            async {
                if let Err(error) = write(writer, &handle, &wakers).await {
                    tracing::debug!(%error, "cannot write to a client");
                    handle.lose();
                }
            },
        )
    };
    tokio::select! {
        _ = both => {}
        () = watch_deadlines(wakers.phase.clone(), &config) => {}
    }
}

/// Returns when a client takes too long for the handshake or for its end.
async fn watch_deadlines(mut phase: watch::Receiver<Phase>, config: &Config) {
    let past_handshake =
        phase.wait_for(|phase| matches!(phase, Phase::Open | Phase::Closing | Phase::Finished));
    if timeout(config.handshake_timeout, past_handshake)
        .await
        .is_err()
    {
        return;
    }
    let _ = phase
        .wait_for(|phase| matches!(phase, Phase::Closing | Phase::Finished))
        .await;
    tokio::time::sleep(config.close_timeout).await;
}

/// Feeds the session until the client is gone: end of the stream, an error, or
/// silence for two heartbeat intervals (section 4.2.7).
///
/// After the connection has ended it still reads, and throws away: closing a socket
/// with unread bytes resets the connection, which could cost the client the last
/// bytes it was sent.
async fn read(mut socket: ReadHalf<'_>, session: &mut Session, wake: &Notify) {
    let handle = session.handle();
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    loop {
        while session.is_paused() {
            wake.notified().await;
        }
        // What a pause left.
        if session.unhandled() > 0 {
            session.receive(&[]);
            if session.is_paused() {
                continue;
            }
        }
        buffer.clear();
        let read = socket.read_buf(&mut buffer);
        let silence = match (handle.phase(), handle.heartbeat()) {
            (Phase::Open, heartbeat @ 1..) => Some(Duration::from_secs(2 * u64::from(heartbeat))),
            _ => None,
        };
        match within(silence, read).await {
            Ok(0) | Err(_) => return,
            Ok(_) => session.receive(&buffer),
        }
    }
}

/// Writes the session's output, and heartbeats when there is none, until the
/// connection has ended and everything is written.
async fn write(mut socket: WriteHalf<'_>, handle: &Handle, wakers: &Wakers) -> io::Result<()> {
    loop {
        // Looked at first: output that comes before the end is then not missed.
        let finished = handle.phase() == Phase::Finished;
        let heartbeat = Duration::from_secs(handle.heartbeat().into());
        let has_heartbeat = !heartbeat.is_zero();
        let mut output = handle.take_output();
        if output.is_empty() {
            if finished {
                return socket.shutdown().await;
            }
            // Half the interval, so that one late heartbeat does no harm.
            let idle = has_heartbeat.then_some(heartbeat / 2);
            let woken = async {
                wakers.writer.notified().await;
                Ok(())
            };
            if within(idle, woken).await.is_ok() {
                continue;
            }
            let mut frame = BytesMut::new();
            frames::put_heartbeat(&mut frame);
            output = frame.freeze();
        }
        while output.has_remaining() {
            // A client that takes nothing for so long is as lost as a silent one.
            let stuck = has_heartbeat.then_some(heartbeat * 2);
            if within(stuck, socket.write_buf(&mut output)).await? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
    }
}

/// Runs `work` for at most `limit`, without a limit if there is none.
async fn within<T>(
    limit: Option<Duration>,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match limit {
        None => work.await,
        Some(limit) => match timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        },
    }
}
