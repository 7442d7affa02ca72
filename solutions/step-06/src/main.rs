//! tier1: start and stop.

mod attributes;
mod config;
mod deadline;
mod error;
mod http;
mod logging;
mod queue;
mod routes;
mod saas;
mod server;
mod telemetry;
mod tier2;
mod w3c;

use std::{io::Write, net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use crate::{config::Config, routes::App};

/// How long the broker may take to say goodbye.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// The exit code of a configuration that can't be used.
const EXIT_CONFIG: u8 = 2;

fn main() -> ExitCode {
    let config = match Config::from_env().and_then(|config| {
        logging::init(config.log_format)?;
        Ok(config)
    }) {
        Ok(config) => config,
        Err(error) => {
            say(&format!("tier1: {error}"));
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    // Before the first span: a tracer asks for the global provider once.
    // Dropped at the end of `main`, when the last request has ended its span.
    let _telemetry = telemetry::init(config.flush_timeout)
        // Without telemetry the service is still worth having.
        .inspect_err(|reason| say(&format!("tier1: {reason}")))
        .ok();
    let served = match Runtime::new() {
        Ok(runtime) => {
            let served = runtime.block_on(serve(config));
            // Not dropped: that would wait for whatever still blocks a thread, such as the
            // look-up of a name, and lapin's own thread panics without it. All of it ends
            // with the process.
            std::mem::forget(runtime);
            served
        }
        Err(error) => Err(format!("can't start the runtime: {error}")),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            say(&format!("tier1: {reason}"));
            ExitCode::FAILURE
        }
    }
}

/// Listens, answers requests until the process is told to stop, and lets those
/// that are under way end.
async fn serve(config: Config) -> Result<(), String> {
    let address = (config.host.as_str(), config.port);
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| format!("HOST and PORT: can't listen on {address:?}: {error}"))?;
    let address = listener
        .local_addr()
        .map_err(|error| format!("can't tell the address: {error}"))?;
    // Before anyone is told the address: a signal that comes now must be heard.
    let stop = stop_signal().map_err(|error| format!("can't listen for signals: {error}"))?;
    let drain_timeout = config.drain_timeout;
    let app = Arc::new(App::new(config)?);
    say(&format!("listening on http://{address}"));

    let (stopping, stopped) = oneshot::channel();
    // With the caller's address: `server.rs` tells it.
    let service = routes::router(app.clone()).into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(listener, service).with_graceful_shutdown(async move {
        stop.await;
        tracing::info!("stopping, no new requests");
        // Fails only if the server has ended by itself; then nobody waits for it.
        let _ = stopping.send(());
    });
    let drained = async {
        match stopped.await {
            Ok(()) => tokio::time::sleep(drain_timeout).await,
            Err(_) => std::future::pending().await,
        }
    };
    let served = tokio::select! {
        served = server => served.map_err(|error| format!("the server failed: {error}")),
        () = drained => Err(format!("stopped with requests under way after {drain_timeout:?}")),
    };
    // Whatever comes of it, the process ends now.
    let _ = tokio::time::timeout(CLOSE_DEADLINE, app.queue.close()).await;
    served
}

/// One line on stderr. Unlike `eprintln!` it doesn't panic when nobody reads it.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Done when the process gets SIGTERM (an orchestrator, `docker stop`) or SIGINT
/// (ctrl-c). From the call on, neither ends the process by itself.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
