//! Is a service healthy? Docker asks again and again, so each question has to be cheap and short.

use std::{env, time::Duration};

use lapin::{Connection, ConnectionProperties, options::QueueDeclareOptions, types::FieldTable};
use reqwest::{blocking::Client, redirect::Policy};

/// How long an answer may take. Shorter than the timeout in `docker-compose.yaml`: who is
/// killed by that can't say why.
const DEADLINE: Duration = Duration::from_secs(2);

/// Whether `url` is answered with a 2xx.
///
/// # Errors
/// One line that says what came instead.
pub fn http(url: &str) -> Result<(), String> {
    let client = Client::builder()
        // It asks its own container: a proxy would ask another one.
        .no_proxy()
        .redirect(Policy::none())
        .timeout(DEADLINE)
        .build()
        .map_err(|error| format!("no HTTP client: {error}"))?;
    match client.get(url).send() {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(format!("the answer is {}", answer.status().as_u16())),
        Err(error) if error.is_builder() => Err("URL must be an http URL".to_owned()),
        Err(error) if error.is_timeout() => Err(format!("no answer within {DEADLINE:?}")),
        Err(_) => Err("nobody answers".to_owned()),
    }
}

/// Whether somebody consumes `queue` on the broker at AMQP_URL. A consumer has no port to
/// ask; the broker knows.
///
/// # Errors
/// One line. It never holds the URL, which has a password in it.
pub fn consumer(queue: &str) -> Result<(), String> {
    let url = env::var("AMQP_URL").unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| format!("can't start the runtime: {error}"))?;
    // Within `async`: a timer is made on the runtime.
    let asked =
        runtime.block_on(async { tokio::time::timeout(DEADLINE, consumers(&url, queue)).await });
    // Whatever still waits for the broker ends with the process.
    runtime.shutdown_background();
    match asked {
        Ok(Ok(0)) => Err(format!("nobody consumes {queue:?}")),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(reason)) => Err(reason),
        Err(_) => Err(format!("no answer from the broker within {DEADLINE:?}")),
    }
}

/// How many consumers the queue has. Passive: a queue that isn't there stays so.
async fn consumers(url: &str, queue: &str) -> Result<u32, String> {
    let uri = url
        .parse()
        .map_err(|_| "AMQP_URL must be an AMQP URL".to_owned())?;
    let ask = async {
        let properties = ConnectionProperties::default().with_connection_name("probe".into());
        let connection = Connection::connect_uri(uri, properties).await?;
        let channel = connection.create_channel().await?;
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let found = channel
            .queue_declare(queue.into(), passive, FieldTable::default())
            .await?;
        connection.close(200, "".into()).await?;
        Ok::<_, lapin::Error>(found.consumer_count())
    };
    // The error of a refused login tells the user's name at most; those of the wire no more.
    ask.await.map_err(|error| format!("the broker: {error}"))
}
