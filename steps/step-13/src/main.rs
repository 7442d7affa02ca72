//! consumer: start and stop.

mod attributes;
mod baggage;
mod config;
mod connection;
mod database;
mod deadline;
mod headers;
mod logging;
mod message;
mod otel_env;
mod process;
mod queue;
mod telemetry;
mod w3c;

use std::{io::Write, process::ExitCode, time::Duration};

use members::Members;
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{config::Config, connection::Source, process::Processor, telemetry::Telemetry};

/// The queue that tier1 publishes to.
const QUEUE: &str = "signups";

/// How many messages the broker hands out ahead of their ack.
const PREFETCH: u16 = 10;

/// How long a message in hand and the goodbye to the broker may take once the service
/// was told to stop. Docker kills a process 10 s after its SIGTERM, Kubernetes after
/// 30 s: what is to happen in order has to be over before.
const DRAIN_DEADLINE: Duration = Duration::from_secs(6);

/// The exit code of a configuration that can't be used.
const EXIT_CONFIG: u8 = 2;

fn main() -> ExitCode {
    let config = match Config::from_env().and_then(|config| {
        logging::init(config.log_format)?;
        Ok(config)
    }) {
        Ok(config) => config,
        Err(error) => return fail(ExitCode::from(EXIT_CONFIG), &error.to_string()),
    };
    // Dropped at the end of `main`, when the last message has ended its span.
    let telemetry = telemetry::init();
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            let reason = format!("can't start the runtime: {error}");
            return fail(ExitCode::FAILURE, &reason);
        }
    };
    let members = match runtime.block_on(Members::connect(&config.database_url)) {
        Ok(members) => members,
        Err(error) => return fail(ExitCode::from(EXIT_CONFIG), &error.to_string()),
    };
    let served = runtime.block_on(serve(config, members, &telemetry));
    // Not dropped: that would wait for whatever still blocks a thread, such as the
    // look-up of a name. All of it ends with the process.
    std::mem::forget(runtime);
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => fail(ExitCode::FAILURE, &reason),
    }
}

/// Consumes until the process is told to stop, and lets the message in hand end.
async fn serve(config: Config, members: Members, telemetry: &Telemetry) -> Result<(), String> {
    // Before the first message: a signal that comes now must be heard.
    let stop = stop_signal().map_err(|error| format!("can't listen for signals: {error}"))?;
    let source = Source {
        uri: config.amqp_url,
        queue: QUEUE.into(),
        prefetch: PREFETCH,
    };
    let processor = Processor {
        members,
        tracer: telemetry.tracer(),
        propagator: telemetry.propagator(),
        address: source.address(),
    };
    let (stopping, stopped) = watch::channel(false);
    let consuming = queue::consume(source, processor, stopped);
    let drained = async {
        stop.await;
        tracing::info!("stopping, no new messages");
        stopping.send_replace(true);
        tokio::time::sleep(DRAIN_DEADLINE).await;
    };
    tokio::select! {
        () = consuming => Ok(()),
        () = drained => Err(format!("stopped with a message in hand after {DRAIN_DEADLINE:?}")),
    }
}

/// Says on stderr why the process ends with `code`.
fn fail(code: ExitCode, reason: &str) -> ExitCode {
    say(&format!("consumer: {reason}"));
    code
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
