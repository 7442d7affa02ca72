//! The system around one process under test.

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider},
};
use otlp::{LogRecord, Receiver, Request, Span, Store, Trace};
use reqwest::header::HeaderMap;
use tokio::runtime::Runtime;

use crate::{
    broker_choice::{self, BrokerChoice, Message},
    consuming::Database,
    contract::{CONSUMER_SERVICE, TIER1},
    error::LabError,
    forwarder::{Fault, Forwarder, Refusing},
    rejections::Rejections,
    subject::{Echo, Exit, Program, StopSignal, Subject},
};

/// How long the system may take to come to rest.
const SETTLE_DEADLINE: Duration = Duration::from_secs(20);

/// How long an answer to a request of the lab's is waited for, unless told otherwise.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// How long the connections of a process that has ended may take to end on their other side.
const DISCONNECTED: Duration = Duration::from_secs(2);

/// How long tier1's connection to the queue may take.
const CONNECTED: Duration = Duration::from_secs(10);

/// How long a span waits in an in-process service before it is exported. A person
/// who watches wants it soon.
const EXPORT_DELAY: Duration = Duration::from_millis(100);

/// How many spans of an in-process service may wait for their export. The processor makes
/// all the room at once: with 65,536 that was a third of what a check costs.
const EXPORT_QUEUE: usize = 4096;

/// A part of the system that a lab can be started without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// tier2: its address refuses connections.
    Tier2,
    /// saas: its address refuses connections.
    Saas,
    /// The broker, and with it the consumer: its address refuses connections.
    Queue,
    /// The consumer alone: messages stay in the queue.
    Consumer,
}

/// Which part of the system the process under test is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// tier1.
    #[default]
    Tier1,
    /// The consumer: the lab has no other, and publishes the messages itself. There is
    /// no tier2 and no saas.
    Consumer,
}

impl Role {
    /// The `service.name` that such a program has in this system.
    pub(crate) fn service(self) -> &'static str {
        match self {
            Self::Tier1 => TIER1,
            Self::Consumer => CONSUMER_SERVICE,
        }
    }
}

/// How a system is started.
#[derive(Clone, Debug, PartialEq)]
pub struct LabConfig {
    /// What the process under test is.
    pub role: Role,
    /// What is missing.
    pub without: Vec<Part>,
    /// Which broker to use.
    pub broker: BrokerChoice,
    /// tier1's SLOW_DELAY_MS.
    pub slow_delay: Duration,
    /// tier1's SLOW_CHANCE. The default is 0: nothing is left to chance.
    pub slow_chance: f64,
    /// tier1's HTTP_TIMEOUT_MS.
    pub http_timeout: Duration,
    /// tier1's QUEUE_TIMEOUT_MS.
    pub queue_timeout: Duration,
    /// Where the receiver listens. The default is a free port on 127.0.0.1.
    pub receiver: SocketAddr,
    /// How saas answers: its delay and its status.
    pub saas: saas::SaasConfig,
    /// How long the subject may take to end once told to, until it is killed. The
    /// default is 20 s, beyond tier1's own deadline for draining.
    pub stop_deadline: Duration,
    /// How long an answer is waited for. The default is 30 s.
    pub answer_deadline: Duration,
}

impl LabConfig {
    /// The whole system, with the broker that the environment chooses.
    ///
    /// # Errors
    /// If WORKBOOK_BROKER or WORKBOOK_AMQP_URL can't be used.
    pub fn from_env() -> Result<Self, LabError> {
        BrokerChoice::from_env().map(Self::new)
    }

    /// The whole system, with this broker.
    ///
    /// The timeouts are tier1's own, but SLOW_DELAY_MS is 300: a check that waits
    /// for `/slow` shall not take longer than need be.
    pub fn new(broker: BrokerChoice) -> Self {
        Self {
            role: Role::Tier1,
            without: Vec::new(),
            broker,
            slow_delay: Duration::from_millis(300),
            slow_chance: 0.0,
            http_timeout: Duration::from_secs(5),
            queue_timeout: Duration::from_secs(2),
            receiver: any_port(),
            saas: saas::SaasConfig::default(),
            stop_deadline: Duration::from_secs(20),
            answer_deadline: ANSWER_DEADLINE,
        }
    }

    /// The same without `part`.
    #[must_use]
    pub fn without(mut self, part: Part) -> Self {
        self.without.push(part);
        self
    }

    fn has(&self, part: Part) -> bool {
        let is_there = match self.role {
            Role::Tier1 => true,
            Role::Consumer => part == Part::Queue,
        };
        is_there && !self.without.contains(&part)
    }
}

/// A forwarder in front of a part, or, where the part is missing, an address that refuses.
enum Front {
    Open(Forwarder),
    Refusing(Refusing),
}

impl Front {
    async fn new(upstream: Option<String>) -> Result<Self, LabError> {
        Ok(match upstream {
            Some(upstream) => Self::Open(Forwarder::start(upstream).await?),
            None => Self::Refusing(Refusing::start()?),
        })
    }

    /// The broker's, where rejections are counted.
    async fn of_queue(upstream: Option<String>, rejections: &Rejections) -> Result<Self, LabError> {
        let Some(upstream) = upstream else {
            return Self::new(None).await;
        };
        let rejections = rejections.clone();
        let heard = Forwarder::start_heard(upstream, move || rejections.listener());
        Ok(Self::Open(heard.await?))
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Open(forwarder) => forwarder.address(),
            Self::Refusing(refusing) => refusing.address(),
        }
    }

    /// How many connections there are.
    fn open(&self) -> usize {
        match self {
            Self::Open(forwarder) => forwarder.open(),
            Self::Refusing(_) => 0,
        }
    }

    /// Waits until there are at most `count` connections.
    async fn wait_for_open(&self, count: usize) {
        if let Self::Open(forwarder) = self {
            forwarder.wait_for_open(count).await;
        }
    }
}

/// A running system: saas, tier2, consumer, a broker, a database and a receiver,
/// with room for one process under test. Everything ends when it is dropped.
///
/// Its methods block, and must not be called from asynchronous code: the lab has
/// a runtime of its own, so that no check and no subject can starve it.
pub struct Lab {
    pub(crate) subject: Option<Subject>,
    /// A consumer that runs beside tier1, in the place of the lab's own.
    beside: Option<Subject>,
    stop_signal: StopSignal,
    /// How many connections each front had before the subject was started.
    connections: [usize; 3],
    config: LabConfig,
    receiver: Receiver,
    tier2: Option<tier2::Tier2>,
    saas: Option<saas::Saas>,
    consumer: Option<consumer::Consumer>,
    pub(crate) broker: Option<broker_choice::Running>,
    fronts: Fronts,
    rejections: Rejections,
    providers: Vec<SdkTracerProvider>,
    /// What tier1 would have, where the lab publishes in its place.
    pub(crate) publisher: Option<SdkTracerProvider>,
    /// The database of a consumer under test.
    pub(crate) database: Option<Database>,
    client: reqwest::Client,
    runtime: Runtime,
}

struct Fronts {
    tier2: Front,
    saas: Front,
    queue: Front,
}

impl Fronts {
    fn all(&self) -> [&Front; 3] {
        [&self.tier2, &self.saas, &self.queue]
    }
}

impl Lab {
    /// Starts the system.
    ///
    /// # Errors
    /// If a part of it can't be started.
    pub fn start(config: LabConfig) -> Result<Self, LabError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("lab")
            .enable_all()
            .build()?;
        let receiver = runtime.block_on(Receiver::bind(config.receiver))?;
        // Outside of the runtime: the exporter's blocking client has one of its own.
        let tier2_provider = provider("tier2-service", &receiver)?;
        let consumer_provider = provider(CONSUMER_SERVICE, &receiver)?;
        let mut providers = vec![tier2_provider.clone(), consumer_provider.clone()];
        let (publisher, database) = match config.role {
            Role::Tier1 => (None, None),
            Role::Consumer => (Some(provider(TIER1, &receiver)?), Some(Database::new()?)),
        };
        providers.extend(publisher.clone());

        let tier2_telemetry = tier2::Telemetry::new(tier2_provider);
        let consumer_telemetry = consumer::Telemetry::new(consumer_provider);

        let system =
            runtime.block_on(System::start(&config, tier2_telemetry, consumer_telemetry))?;
        let client = reqwest::Client::builder()
            .no_proxy()
            // Nothing here speaks TLS, and reading the system's certificates takes time.
            .tls_certs_only([])
            .redirect(reqwest::redirect::Policy::none())
            .timeout(config.answer_deadline)
            // Each request on a connection of its own, as from callers who don't know each other.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| LabError::part("the lab's client", error))?;
        Ok(Self {
            subject: None,
            beside: None,
            stop_signal: StopSignal::Term,
            connections: [0; 3],
            config,
            receiver,
            tier2: system.tier2,
            saas: system.saas,
            consumer: system.consumer,
            broker: system.broker,
            fronts: system.fronts,
            rejections: system.rejections,
            providers,
            publisher,
            database,
            client,
            runtime,
        })
    }

    /// How it was started.
    pub fn config(&self) -> &LabConfig {
        &self.config
    }

    /// The variables that connect the process under test with this system.
    pub fn variables(&self) -> Vec<(String, String)> {
        let config = &self.config;
        let millis = |duration: Duration| duration.as_millis().to_string();
        let both = [
            ("AMQP_URL", self.amqp_url()),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", self.receiver.endpoint()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf".to_owned()),
        ];
        let own = match &self.database {
            Some(database) => vec![("DATABASE_URL", database.url())],
            None => vec![
                (
                    "TIER2_URL",
                    format!("http://{}", self.fronts.tier2.address()),
                ),
                ("SAAS_URL", format!("http://{}", self.fronts.saas.address())),
                ("HTTP_TIMEOUT_MS", millis(config.http_timeout)),
                ("QUEUE_TIMEOUT_MS", millis(config.queue_timeout)),
                ("SLOW_DELAY_MS", millis(config.slow_delay)),
                ("SLOW_CHANCE", config.slow_chance.to_string()),
            ],
        };
        both.into_iter()
            .chain(own)
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    /// Where a client meets the broker.
    pub(crate) fn queue_address(&self) -> SocketAddr {
        self.fronts.queue.address()
    }

    /// The URL by which the subject reaches the broker.
    fn amqp_url(&self) -> String {
        let address = self.fronts.queue.address();
        match &self.broker {
            Some(broker) => broker.url_through(address),
            None => format!("amqp://guest:guest@{address}/%2f"),
        }
    }

    /// Starts the process under test, with `variables` on top of [`Lab::variables`],
    /// and waits until it answers.
    ///
    /// # Errors
    /// If it can't be started, ends, or doesn't answer in time.
    pub fn spawn(&mut self, program: &Program, variables: &[(&str, &str)]) -> Result<(), LabError> {
        self.spawn_echoing(program, variables, None)
    }

    /// [`Lab::spawn`], with each line that the process writes given to `echo`.
    ///
    /// # Errors
    /// As for [`Lab::spawn`].
    pub fn spawn_echoing(
        &mut self,
        program: &Program,
        variables: &[(&str, &str)],
        echo: Option<Echo>,
    ) -> Result<(), LabError> {
        let mut all = self.variables();
        all.extend(
            variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        self.connections = self.fronts.all().map(Front::open);
        let subject = self.runtime.block_on(Subject::start(program, &all, echo))?;
        self.subject = Some(subject);
        self.stop_signal = program.stop_signal();
        Ok(())
    }

    /// Starts a consumer beside tier1, with `variables` on top of [`Lab::variables`], and
    /// waits until it consumes. For a lab without [`Part::Consumer`].
    ///
    /// # Errors
    /// As for [`Lab::spawn`].
    pub fn spawn_consumer(
        &mut self,
        program: &Program,
        variables: &[(&str, &str)],
        echo: Option<Echo>,
    ) -> Result<(), LabError> {
        let mut all = self.variables();
        let variables = variables.iter();
        all.extend(variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let program = program.clone().consuming();
        self.beside = Some(
            self.runtime
                .block_on(Subject::start(&program, &all, echo))?,
        );
        Ok(())
    }

    /// Waits until the consumer beside tier1 has logged what became of a message, and
    /// answers all that it has logged. Without one, or if it doesn't say so within
    /// `deadline`, that is what there is.
    pub fn logged_by_consumer(&self, deadline: Duration) -> String {
        let Some(consumer) = &self.beside else {
            return String::new();
        };
        let ends = ["processed", "rejected", "requeued"];
        let settled = |text: &str| ends.iter().any(|end| text.contains(end));
        // Not every path publishes a message.
        let _ = self
            .runtime
            .block_on(consumer.logged("a message".to_owned(), deadline, settled));
        consumer.stdout()
    }

    /// `http://address` of the process under test.
    ///
    /// # Panics
    /// If none was started.
    pub fn subject_url(&self) -> String {
        format!("http://{}", self.subject().address)
    }

    pub(crate) fn subject(&self) -> &Subject {
        self.subject
            .as_ref()
            .expect("a check starts the subject first")
    }

    /// What the process has written on stdout so far.
    pub fn stdout(&self) -> String {
        self.subject().stdout()
    }

    /// What the process has written on stderr so far.
    pub fn stderr(&self) -> String {
        self.subject().stderr()
    }

    /// Whether the process has ended by itself.
    pub fn subject_has_exited(&mut self) -> bool {
        self.subject.as_mut().is_some_and(Subject::has_exited)
    }

    /// One GET.
    ///
    /// # Errors
    /// If there is no answer. A 500 is an answer.
    pub fn get(&self, path: &str) -> Result<Response, LabError> {
        self.request("GET", path, &[])
    }

    /// Asks for `/fast` until it is answered 200, which takes a connection to the queue, or
    /// ten seconds are over. The last answer.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn get_until_connected(&self) -> Result<Response, LabError> {
        let started = Instant::now();
        loop {
            let response = self.get("/fast")?;
            if response.status == 200 || started.elapsed() > CONNECTED {
                return Ok(response);
            }
        }
    }

    /// One request with `headers`.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response, LabError> {
        self.runtime.block_on(self.send(method, path, headers))
    }

    /// One GET for each of `paths`, all at the same time; answers in the paths' order.
    ///
    /// # Errors
    /// If one of them gets no answer.
    pub fn get_all(&self, paths: &[&str]) -> Result<Vec<Response>, LabError> {
        let requests = paths.iter().map(|path| self.send("GET", path, &[]));
        self.runtime
            .block_on(futures_util::future::try_join_all(requests))
    }

    /// One GET whose caller hangs up as soon as `until` is done. Whatever is answered
    /// until then, nobody reads it.
    ///
    /// # Errors
    /// If the request can't be sent, or `until` fails.
    pub fn get_and_hang_up<E: From<LabError>>(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        until: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let address = self.subject().address;
        let mut request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let sent = TcpStream::connect(address).and_then(|mut caller| {
            caller.write_all(request.as_bytes())?;
            Ok(caller)
        });
        let caller = sent.map_err(|error| LabError::NoAnswer {
            method: "GET".to_owned(),
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        until()?;
        drop(caller);
        Ok(())
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response, LabError> {
        let no_answer = |reason: String| LabError::NoAnswer {
            method: method.to_owned(),
            path: path.to_owned(),
            reason,
        };
        let verb = reqwest::Method::from_bytes(method.as_bytes())
            .map_err(|error| no_answer(error.to_string()))?;
        let mut request = self
            .client
            .request(verb, format!("{}{path}", self.subject_url()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let failed = |error: reqwest::Error| {
            let mut cause: &dyn std::error::Error = &error;
            while let Some(source) = cause.source() {
                cause = source;
            }
            no_answer(cause.to_string())
        };
        let started = Instant::now();
        let answered = async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            let headers = response.headers().clone();
            let body = response.text().await?;
            Ok::<_, reqwest::Error>(Response {
                status,
                body,
                headers,
                elapsed: started.elapsed(),
            })
        };
        match answered.await {
            Ok(response) => Ok(response),
            // A panic closes the connection.
            Err(error) if error.is_timeout() || error.is_connect() => Err(failed(error)),
            Err(error) => Err(match self.subject().panicked().await {
                Some(told) => LabError::Panicked {
                    what: format!("an answer to {method} {path}"),
                    told,
                },
                None => failed(error),
            }),
        }
    }

    /// Makes or ends a fault between the subject and `part`.
    ///
    /// # Panics
    /// If the lab was started without `part`: there is nothing to disturb.
    pub fn fault(&self, part: Part, fault: Fault) {
        let front = match part {
            Part::Tier2 => &self.fronts.tier2,
            Part::Saas => &self.fronts.saas,
            Part::Queue | Part::Consumer => &self.fronts.queue,
        };
        match front {
            Front::Open(forwarder) => forwarder.set(fault),
            Front::Refusing(_) => panic!("the lab was started without {part:?}"),
        }
    }

    /// The receiver, to be told how to behave.
    pub fn receiver(&self) -> &Receiver {
        &self.receiver
    }

    /// The receiver behind TLS, with an authority of its own.
    ///
    /// # Errors
    /// If a certificate can't be made, or no port be bound.
    pub fn receiver_behind_tls(&self) -> Result<crate::TlsFront, LabError> {
        let receiver = self.receiver.address();
        self.runtime.block_on(crate::TlsFront::start(receiver))
    }

    /// What the receiver has got so far.
    pub fn store(&self) -> Arc<Store> {
        self.receiver.store()
    }

    /// Takes all messages out of the queue. Sensible without the consumer only.
    ///
    /// # Errors
    /// If the broker doesn't answer.
    pub fn take_messages(&self) -> Result<Vec<Message>, LabError> {
        match &self.broker {
            Some(broker) => self.runtime.block_on(broker.take_messages()),
            None => Ok(Vec::new()),
        }
    }

    /// Takes messages out of the queue until `count` have come or `deadline` has passed.
    ///
    /// # Errors
    /// If the broker doesn't answer.
    pub fn wait_for_messages(
        &self,
        count: usize,
        deadline: Duration,
    ) -> Result<Vec<Message>, LabError> {
        let started = Instant::now();
        let mut messages = self.take_messages()?;
        while messages.len() < count && started.elapsed() < deadline {
            messages.extend(self.take_messages()?);
        }
        Ok(messages)
    }

    /// Declares the queue, but in other words than tier1 and the consumer, who are refused
    /// from then on.
    ///
    /// # Errors
    /// If the broker doesn't answer, or has a queue of this name.
    pub fn declare_another_queue(&self) -> Result<(), LabError> {
        match &self.broker {
            Some(broker) => self.runtime.block_on(broker.declare_another_queue()),
            None => Ok(()),
        }
    }

    /// Deletes the queue, with what is in it.
    ///
    /// # Errors
    /// If the broker doesn't answer.
    pub fn delete_queue(&self) -> Result<(), LabError> {
        match &self.broker {
            Some(broker) => self.runtime.block_on(broker.delete_queue()),
            None => Ok(()),
        }
    }

    /// Waits until the consumer has received `count` messages in all.
    ///
    /// # Errors
    /// If it doesn't within `deadline`.
    pub fn wait_for_consumed(&self, count: u64, deadline: Duration) -> Result<(), LabError> {
        let timed_out = || LabError::TimedOut {
            what: format!("message number {count} reaching the consumer"),
            deadline,
        };
        let consumer = self.consumer.as_ref().ok_or_else(timed_out)?;
        self.runtime
            .block_on(consumer.wait_until(|processed| processed.received >= count, deadline))
            .map(|_| ())
            .map_err(|_| timed_out())
    }

    /// Waits until saas has been asked `count` times in all, whether or not it has answered.
    ///
    /// # Errors
    /// If it hasn't within `deadline`.
    pub fn wait_for_saas_asked(&self, count: u64, deadline: Duration) -> Result<(), LabError> {
        let timed_out = || LabError::TimedOut {
            what: format!("request number {count} reaching saas"),
            deadline,
        };
        let saas = self.saas.as_ref().ok_or_else(timed_out)?;
        self.runtime
            .block_on(async { tokio::time::timeout(deadline, saas.wait_until_asked(count)).await })
            .map_err(|_| timed_out())
    }

    /// How many messages the consumer has acknowledged and rejected.
    pub fn consumed(&self) -> consumer::Processed {
        self.consumer
            .as_ref()
            .map(consumer::Consumer::processed)
            .unwrap_or_default()
    }

    /// How often a message was rejected since the lab was started, by `basic.reject` or
    /// `basic.nack`: a nack of several messages counts once. Waits a little for what a
    /// process that has ended sent last.
    pub fn rejections(&self) -> u64 {
        if self.subject.is_none() {
            self.wait_for_disconnected();
        }
        self.rejections.count()
    }

    /// Waits until the connections of the process that has ended have ended on their other
    /// side, too. Whether they did: it doesn't wait long.
    fn wait_for_disconnected(&self) -> bool {
        self.runtime.block_on(async {
            let fronts = self.fronts.all().into_iter().zip(self.connections);
            let all = fronts.map(|(front, before)| front.wait_for_open(before));
            let all = futures_util::future::join_all(all);
            tokio::time::timeout(DISCONNECTED, all).await.is_ok()
        })
    }

    /// The embedded broker, to look into, if that is the one in use.
    pub fn embedded_broker(&self) -> Option<&broker::Broker> {
        self.broker
            .as_ref()
            .and_then(broker_choice::Running::embedded)
    }

    /// Waits until `found` finds what it looks for in what the receiver has got.
    ///
    /// # Errors
    /// If it doesn't within `deadline`; `what` says what it was.
    pub fn wait_for<T>(
        &self,
        what: &str,
        deadline: Duration,
        found: impl FnMut(&otlp::Snapshot) -> Option<T>,
    ) -> Result<T, LabError> {
        let store = self.receiver.store();
        self.runtime
            .block_on(store.wait_until(deadline, found))
            .map_err(|_| LabError::TimedOut {
                what: what.to_owned(),
                deadline,
            })
    }

    /// Tells the process to end, as its [`Program`] wants to be told, and waits for it.
    ///
    /// # Errors
    /// If it doesn't end in time; then it is killed.
    pub fn stop(&mut self) -> Result<Exit, LabError> {
        self.stop_with(self.stop_signal)
    }

    /// [`Lab::stop`] with a signal of your choice.
    ///
    /// # Errors
    /// As for [`Lab::stop`].
    ///
    /// # Panics
    /// If no process runs.
    pub fn stop_with(&mut self, signal: StopSignal) -> Result<Exit, LabError> {
        let subject = self
            .subject
            .take()
            .expect("a check starts the subject first");
        let deadline = self.config.stop_deadline;
        self.runtime.block_on(subject.stop(signal, deadline))
    }

    /// Sends a signal without waiting for the end.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn signal(&self, signal: StopSignal) -> Result<(), LabError> {
        self.subject().signal(signal)
    }

    /// Waits until the consumer has settled every message and the services around
    /// the subject have exported every span.
    ///
    /// # Errors
    /// If they don't in time.
    pub fn settle(&self) -> Result<(), LabError> {
        if let Some(consumer) = &self.consumer {
            self.runtime
                .block_on(consumer.settle(SETTLE_DEADLINE))
                .map_err(|error| LabError::part("the consumer", error))?;
        }
        for provider in &self.providers {
            provider
                .force_flush()
                .map_err(|error| LabError::part("the system's own export", error))?;
        }
        Ok(())
    }

    /// Ends the process, waits until everything it set in motion has come to rest,
    /// and answers what was exported. Now the traces are complete.
    ///
    /// # Errors
    /// If something doesn't come to rest in time.
    pub fn finish(mut self) -> Result<Recording, LabError> {
        let exit = match self.subject {
            Some(_) => Some(self.stop()?),
            None => None,
        };
        if let Some(consumer) = self.beside.take() {
            let stopped = consumer.stop(StopSignal::Term, self.config.stop_deadline);
            self.runtime.block_on(stopped)?;
        }
        self.settle()?;
        Ok(self.recording(exit))
    }

    /// [`Lab::finish`] for a system that is to be used again: what was exported, and whether
    /// another process can take this one's place. It can if this one has ended in order and
    /// nothing of it is under way any more; then the next recording has nothing of this one.
    ///
    /// # Errors
    /// As for [`Lab::finish`].
    pub fn finish_one(&mut self) -> Result<(Recording, bool), LabError> {
        let exit = self.stop()?;
        // A server that has ended its side of a connection too is done with what came by it.
        let disconnected = self.wait_for_disconnected();
        self.settle()?;
        let is_at_rest = disconnected && exit.status.success() && self.beside.is_none();
        let recording = self.recording(Some(exit));
        self.receiver.store().clear();
        Ok((recording, is_at_rest))
    }

    /// What was exported so far.
    pub fn recording(&self, exit: Option<Exit>) -> Recording {
        let snapshot = self.receiver.store().snapshot();
        Recording {
            spans: snapshot.spans().to_vec(),
            logs: snapshot.logs().to_vec(),
            requests: snapshot.requests().to_vec(),
            exit,
        }
    }

    /// The addresses of the parts, with their names, for people.
    pub fn addresses(&self) -> Vec<(&'static str, String)> {
        let mut addresses = Vec::new();
        if let Some(subject) = &self.subject {
            addresses.push(("tier1", format!("http://{}", subject.address)));
        }
        addresses.push(("tier2", format!("http://{}", self.fronts.tier2.address())));
        addresses.push((
            "saas",
            format!(
                "http://{}{}",
                self.fronts.saas.address(),
                saas::SUMMARY_PATH
            ),
        ));
        addresses.push(("queue", format!("amqp://{}", self.fronts.queue.address())));
        addresses.push(("OTLP receiver", self.receiver.endpoint()));
        addresses
    }

    /// Starts `future` on the lab's runtime, where it ends with the lab.
    pub(crate) fn spawn_task<F>(&self, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.runtime.spawn(future)
    }

    /// Runs `future` on the lab's runtime.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }
}

/// Ends systems, all at the same time: each waits for its broker.
pub(crate) fn end_all(labs: Vec<Lab>) {
    std::thread::scope(|scope| {
        for lab in labs {
            scope.spawn(move || drop(lab));
        }
    });
}

impl Drop for Lab {
    fn drop(&mut self) {
        let subject = (self.subject.take(), self.beside.take());
        let consumer = self.consumer.take();
        let tier2 = self.tier2.take();
        let saas = self.saas.take();
        let broker = self.broker.take();
        // The subject first: nothing of what it meets from here on is of interest.
        self.runtime.block_on(async {
            drop(subject);
            let stopped = async {
                if let Some(consumer) = consumer {
                    consumer.stop().await;
                }
                if let Some(tier2) = tier2 {
                    tier2.stop().await;
                }
                if let Some(saas) = saas {
                    saas.stop().await;
                }
            };
            let _ = tokio::time::timeout(Duration::from_secs(5), stopped).await;
            drop(broker);
        });
        for provider in &self.providers {
            // Nobody reads what would still be exported.
            let _ = provider.shutdown_with_timeout(Duration::from_secs(1));
        }
    }
}

/// What a lab starts on its runtime.
struct System {
    tier2: Option<tier2::Tier2>,
    saas: Option<saas::Saas>,
    consumer: Option<consumer::Consumer>,
    broker: Option<broker_choice::Running>,
    fronts: Fronts,
    rejections: Rejections,
}

impl System {
    async fn start(
        config: &LabConfig,
        tier2_telemetry: tier2::Telemetry,
        consumer_telemetry: consumer::Telemetry,
    ) -> Result<Self, LabError> {
        let tier2 = if config.has(Part::Tier2) {
            let tier2 = tier2::Tier2::start(tier2::Config::default(), tier2_telemetry).await;
            Some(tier2.map_err(|error| LabError::part("tier2", error))?)
        } else {
            None
        };
        let saas = if config.has(Part::Saas) {
            let config = saas::SaasConfig {
                addr: any_port(),
                ..config.saas.clone()
            };
            Some(saas::Saas::start(config).await?)
        } else {
            None
        };
        let broker = if config.has(Part::Queue) {
            Some(broker_choice::Running::start(&config.broker).await?)
        } else {
            None
        };
        let rejections = Rejections::default();
        let fronts = Fronts {
            tier2: Front::new(tier2.as_ref().map(|tier2| tier2.addr().to_string())).await?,
            saas: Front::new(saas.as_ref().map(|saas| saas.addr().to_string())).await?,
            queue: Front::of_queue(
                broker.as_ref().map(broker_choice::Running::upstream),
                &rejections,
            )
            .await?,
        };
        let consumer = match &broker {
            Some(broker) if config.has(Part::Consumer) => {
                // By the way the subject takes, so that a fault of the queue is one for both.
                let config = consumer::Config {
                    amqp_url: broker.url_through(fronts.queue.address()),
                    database_url: members::DEFAULT_URL.to_owned(),
                    ..consumer::Config::default()
                };
                let failed = |error| LabError::part("the consumer", error);
                let consumer = consumer::Consumer::start(config, consumer_telemetry)
                    .await
                    .map_err(failed)?;
                consumer
                    .ready(SETTLE_DEADLINE)
                    .await
                    .map_err(|error| LabError::part("the consumer", error))?;
                Some(consumer)
            }
            _ => None,
        };
        Ok(Self {
            tier2,
            saas,
            consumer,
            broker,
            fronts,
            rejections,
        })
    }
}

/// The tracer provider of a service that runs inside the lab. It exports over the
/// wire, as the subject does, so that both take the same way.
fn provider(service: &'static str, receiver: &Receiver) -> Result<SdkTracerProvider, LabError> {
    let failed = |error: String| LabError::part("the system's own export", error);
    let client = reqwest::blocking::Client::builder()
        .no_proxy()
        // Nothing here speaks TLS, and reading the system's certificates takes time.
        .tls_certs_only([])
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(format!("{}/v1/traces", receiver.endpoint()))
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let processor = BatchSpanProcessor::builder(exporter)
        .with_batch_config(
            BatchConfigBuilder::default()
                .with_scheduled_delay(EXPORT_DELAY)
                .with_max_queue_size(EXPORT_QUEUE)
                .build(),
        )
        .build();
    let resource = Resource::builder()
        .with_attribute(KeyValue::new(
            opentelemetry_semantic_conventions::attribute::SERVICE_NAME,
            service,
        ))
        .build();
    Ok(SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_resource(resource)
        .build())
}

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// What the subject answered to a request.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body, as text.
    pub body: String,
    /// The headers.
    pub headers: HeaderMap,
    /// From the request's start to the body's end.
    pub elapsed: Duration,
}

/// What a system exported.
#[derive(Clone, Debug)]
pub struct Recording {
    /// All spans, in the order of their arrival.
    pub spans: Vec<Span>,
    /// All log records, in the order of their arrival.
    pub logs: Vec<LogRecord>,
    /// All export requests.
    pub requests: Vec<Request>,
    /// How the subject ended.
    pub exit: Option<Exit>,
}

impl Recording {
    /// The spans as trees.
    pub fn traces(&self) -> Vec<Trace> {
        otlp::traces(&self.spans)
    }

    /// The spans of `service`.
    pub fn spans_of<'a>(&'a self, service: &'a str) -> impl Iterator<Item = &'a Span> {
        self.spans
            .iter()
            .filter(move |span| span.service() == service)
    }
}
