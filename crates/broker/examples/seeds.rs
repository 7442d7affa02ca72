//! Writes the fuzz targets' seeds: what lapin sends in a few conversations, for `bytes`, and long random inputs, for `conversation`.
//!
//! `cargo run -p broker --example seeds`

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use broker::{Broker, Config};
use futures_util::StreamExt;
use lapin::options::*;
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How long one conversation may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// Each in a file of its name.
const CONVERSATIONS: [&str; 5] = ["handshake", "publish", "consume", "get", "refused"];

#[tokio::main]
async fn main() -> Result<()> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let folder = seeds.join("bytes");
    tokio::fs::create_dir_all(&folder).await?;
    for name in CONVERSATIONS {
        let path = folder.join(name);
        tokio::time::timeout(DEADLINE, record(name, path)).await??;
    }
    // All bytes are steps to that target. Left to itself the fuzzer takes long to
    // come to as many of them.
    let folder = seeds.join("conversation");
    tokio::fs::create_dir_all(&folder).await?;
    for seed in 0..16 {
        tokio::fs::write(folder.join(format!("random-{seed:02}")), random(seed)).await?;
    }
    Ok(())
}

/// The same bytes for the same seed, everywhere: SplitMix64.
fn random(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)).to_be_bytes()
    };
    (0..250).flat_map(|_| next()).collect()
}

/// Has one conversation with a broker of its own, and writes what the client sent.
async fn record(name: &str, path: PathBuf) -> Result<()> {
    // The limits of the broker under test, so that the seeds' negotiation holds there.
    let broker = Broker::start(Config {
        frame_max: 8192,
        channel_max: 8,
        heartbeat: Duration::ZERO,
        ..Config::default()
    })
    .await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let uri = format!("amqp://guest:guest@{}/%2f", listener.local_addr()?);
    let recorder = tokio::spawn(relay(listener, broker.addr()));
    let connection = Connection::connect(&uri, ConnectionProperties::default()).await?;
    converse(name, &connection).await?;
    // It is closed already where the conversation provoked that.
    let _ = connection.close(200, "bye".into()).await;
    let sent = recorder.await??;
    broker.stop().await;
    // The target's first byte: all at once, with no handshake in front.
    let seed = [&[0], &sent[..]].concat();
    println!("{}: {} bytes", path.display(), seed.len());
    tokio::fs::write(path, seed).await?;
    Ok(())
}

/// Carries one connection's bytes both ways until the client is done; returns what
/// the client sent.
async fn relay(listener: TcpListener, to: SocketAddr) -> std::io::Result<Vec<u8>> {
    let (client, _) = listener.accept().await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_broker, mut to_broker) = TcpStream::connect(to).await?.into_split();
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_broker, &mut to_client).await });
    let mut sent = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    // A client that leaves something unread ends by a reset.
    while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
        sent.extend_from_slice(&buffer[..read]);
        // Once the broker has closed, what the client still says is lost, and may be.
        if to_broker.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    drop(to_broker);
    back.abort();
    Ok(sent)
}

async fn converse(name: &str, connection: &Connection) -> Result<()> {
    let channel = connection.create_channel().await?;
    match name {
        "handshake" => {}
        "publish" => {
            channel
                .confirm_select(ConfirmSelectOptions::default())
                .await?;
            declare(&channel).await?;
            publish(&channel, "q", b"short", BasicProperties::default()).await?;
            publish(&channel, "q", &[7; 9000], BasicProperties::default()).await?;
            publish(&channel, "nowhere", b"", BasicProperties::default()).await?;
        }
        "consume" => {
            declare(&channel).await?;
            channel.basic_qos(2, BasicQosOptions::default()).await?;
            let mut headers = FieldTable::default();
            let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
            headers.insert(
                "traceparent".into(),
                lapin::types::AMQPValue::LongString(parent.into()),
            );
            for id in ["1", "2", "3"] {
                let properties = BasicProperties::default()
                    .with_delivery_mode(2)
                    .with_message_id(id.into())
                    .with_headers(headers.clone());
                publish(&channel, "q", id.as_bytes(), properties).await?;
            }
            let mut consumer = channel
                .basic_consume(
                    "q".into(),
                    "c".into(),
                    BasicConsumeOptions::default(),
                    FieldTable::default(),
                )
                .await?;
            let mut next = async || consumer.next().await.ok_or("the consumer has ended");
            next().await??.ack(BasicAckOptions::default()).await?;
            let requeue = BasicNackOptions {
                requeue: true,
                ..BasicNackOptions::default()
            };
            next().await??.nack(requeue).await?;
            next().await??.reject(BasicRejectOptions::default()).await?;
            channel
                .basic_cancel("c".into(), BasicCancelOptions::default())
                .await?;
            channel.close(200, "bye".into()).await?;
        }
        "get" => {
            declare(&channel).await?;
            publish(&channel, "q", b"x", BasicProperties::default()).await?;
            for _ in 0..2 {
                channel
                    .basic_get("q".into(), BasicGetOptions::default())
                    .await?;
            }
            channel
                .basic_recover(BasicRecoverOptions { requeue: true })
                .await?;
            channel
                .queue_purge("q".into(), QueuePurgeOptions::default())
                .await?;
            channel
                .queue_delete("q".into(), QueueDeleteOptions::default())
                .await?;
        }
        "refused" => {
            // A fault of the channel, then one of the connection.
            let ack = channel.basic_ack(9, BasicAckOptions::default()).await;
            let other = connection.create_channel().await?;
            let select = other.tx_select().await;
            if ack.is_err() || select.is_ok() {
                return Err(format!("not refused: {ack:?}, {select:?}").into());
            }
        }
        _ => return Err(format!("no conversation '{name}'").into()),
    }
    Ok(())
}

async fn declare(channel: &Channel) -> Result<()> {
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare("q".into(), options, FieldTable::default())
        .await?;
    Ok(())
}

async fn publish(
    channel: &Channel,
    key: &str,
    body: &[u8],
    properties: BasicProperties,
) -> Result<()> {
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    channel
        .basic_publish("".into(), key.into(), options, body, properties)
        .await?
        .await?;
    Ok(())
}
