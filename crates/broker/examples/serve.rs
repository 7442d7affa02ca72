//! Runs the broker by itself: prints its AMQP URI on stdout and serves until stdin closes or ctrl-c.
//!
//! For clients that aren't written in Rust, and for trying things out by hand:
//! `cargo run -p broker --example serve`.

use std::io;

use broker::{Broker, Config};
use tokio::io::AsyncReadExt;

#[tokio::main]
async fn main() -> io::Result<()> {
    let broker = Broker::start(Config::default()).await?;
    println!("{}", broker.uri());
    tokio::select! {
        result = stdin_closed() => result?,
        result = tokio::signal::ctrl_c() => result?,
    }
    broker.stop().await;
    // A read of stdin can't be cancelled, and the runtime would wait for it.
    std::process::exit(0)
}

/// Whoever started the program may end it without knowing its process id.
async fn stdin_closed() -> io::Result<()> {
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0; 1024];
    while stdin.read(&mut ignored).await? > 0 {}
    Ok(())
}
