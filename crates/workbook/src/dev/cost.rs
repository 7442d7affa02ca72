//! What telemetry costs: the processor's time for a request, solution by solution.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use futures_util::future;
use lab::{BrokerChoice, Lab, LabConfig, Program, Recording};
use nix::sys::resource::{UsageWho, getrusage};
use otlp::SpanKind;

use crate::{
    Error, build,
    step::Step,
    terminal, trace,
    variable::{self, Variable},
};

/// Measures what a request costs in each solution, in processor time
///
/// All solutions are built with --release and given the same load, in turns, on the
/// embedded broker: GET /fast over connections that stay open. Told is the median of the
/// rounds, and within what the middle half of them is: the time that tier1's process spent
/// on the processor, without its start and its end, divided by the number of requests.
/// Spans and log records that arrived are counted.
///
/// 0: measured, and nothing was lost. 1: spans or log records were lost (but for step 02,
/// which loses its last ones until step 03 mends that).
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Cost {
    /// Which solutions [default: all of tier1]
    #[arg(value_name = "STEP")]
    steps: Vec<Step>,
    /// How many requests in each round
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u32).range(1..=8_000))]
    requests: u32,
    /// How many rounds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How many requests at a time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=256))]
    connections: u32,
    /// A variable for tier1, such as OTEL_TRACES_EXPORTER=none
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
}

/// Enough for what arrives while the exporter waits for an answer: it is the cost that is
/// measured, not when a queue runs full.
const QUEUES: [(&str, &str); 2] = [
    ("OTEL_BSP_MAX_QUEUE_SIZE", "65536"),
    ("OTEL_BLRP_MAX_QUEUE_SIZE", "65536"),
];

/// The first solution that loses nothing when it ends.
const FLUSHED: u8 = 3;

/// How long the spans of a single request are waited for.
const SPANS: Duration = Duration::from_secs(1);

/// One solution and what was measured of it.
struct Subject {
    step: Step,
    program: PathBuf,
    /// Microseconds for a request, of each round.
    costs: Vec<f64>,
    /// How many spans and log records a request has.
    each: Arrived,
    /// How many did not arrive, of all rounds.
    lost: Arrived,
}

/// Spans and log records of tier1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Arrived {
    spans: usize,
    records: usize,
}

/// One run of a program, from its start to its end.
struct Run {
    /// What its process used of the processor.
    cpu: Duration,
    arrived: Arrived,
}

impl Cost {
    /// Does it.
    pub fn run(self) -> Result<ExitCode, Error> {
        // Before anything is built, which takes minutes.
        let env = variable::all(&self.env)?;
        let mut subjects = Vec::new();
        for step in self.solutions()? {
            let program = build::build_release(&step)?;
            // One request, to know what comes of each.
            let none = self.count(&program, 0, &env)?;
            let one = self.count(&program, 1, &env)?;
            let each = Arrived {
                spans: one.spans - none.spans,
                records: one.records - none.records,
            };
            subjects.push(Subject {
                step,
                program,
                costs: Vec::new(),
                each,
                lost: Arrived::default(),
            });
        }
        for round in 1..=self.rounds {
            for subject in &mut subjects {
                self.measure(subject, &env)?;
            }
            terminal::say(&format!("round {round} of {}\n", self.rounds));
        }
        terminal::say(&self.table(&subjects));
        let lost = subjects
            .iter()
            .any(|it| it.step.number() >= FLUSHED && it.lost != Arrived::default());
        Ok(if lost {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }

    fn solutions(&self) -> Result<Vec<Step>, Error> {
        let last = Step::last_solution()?.number();
        let asked = if self.steps.is_empty() {
            let all = (1..=last).filter(|number| !Step::numbered(*number).is_consumer());
            all.collect()
        } else {
            self.steps.iter().map(Step::number).collect::<Vec<_>>()
        };
        asked
            .into_iter()
            .map(|number| {
                let step = Step::numbered(number).solution();
                step.package().map(|_| step)
            })
            .collect()
    }

    /// What arrives of so many requests, one after another, of the connection's as well.
    fn count(&self, program: &Path, requests: u32, env: &[Variable]) -> Result<Arrived, Error> {
        let lab = start(program, &variable::with(&trace::EXPORT_SOON, env))?;
        // One after another: each has come before the next, or never comes.
        for _ in 0..requests {
            lab.block_on(load(&lab.subject_url(), 1, 1))?;
        }
        let roots = requests as usize + 1;
        let _ = lab.wait_for("the spans", SPANS, |snapshot| {
            let own = snapshot.spans().iter().filter(|span| trace::is_own(span));
            (own.filter(|span| span.kind == SpanKind::Server).count() >= roots).then_some(())
        });
        Ok(arrived(&lab.finish()?))
    }

    fn measure(&self, subject: &mut Subject, env: &[Variable]) -> Result<(), Error> {
        let start_and_end = self.under_load(&subject.program, 0, env)?;
        let loaded = self.under_load(&subject.program, self.requests, env)?;
        let cpu = loaded.cpu.saturating_sub(start_and_end.cpu);
        let requests = f64::from(self.requests);
        subject.costs.push(cpu.as_secs_f64() * 1e6 / requests);
        let expected = |each: usize, before: usize| each * self.requests as usize + before;
        let expected = Arrived {
            spans: expected(subject.each.spans, start_and_end.arrived.spans),
            records: expected(subject.each.records, start_and_end.arrived.records),
        };
        subject.lost.spans += expected.spans.saturating_sub(loaded.arrived.spans);
        subject.lost.records += expected.records.saturating_sub(loaded.arrived.records);
        Ok(())
    }

    /// Starts the system, makes the requests, ends it.
    fn under_load(&self, program: &Path, requests: u32, env: &[Variable]) -> Result<Run, Error> {
        let before = children()?;
        let lab = start(program, &variable::with(&QUEUES, env))?;
        lab.block_on(load(&lab.subject_url(), requests, self.connections))?;
        let recording = lab.finish()?;
        Ok(Run {
            cpu: children()?.saturating_sub(before),
            arrived: arrived(&recording),
        })
    }

    /// As Markdown: it goes into the book.
    fn table(&self, subjects: &[Subject]) -> String {
        let mut text = format!(
            "\n{} requests a round, {} at a time, median of {} rounds, {} {}, {} cores\n\n\
             | solution | µs a request | middle half | more than the first | spans | log records | lost |\n\
             |---|---|---|---|---|---|---|\n",
            self.requests,
            self.connections,
            self.rounds,
            std::env::consts::OS,
            std::env::consts::ARCH,
            std::thread::available_parallelism().map_or(0, usize::from),
        );
        let first = subjects.first().map_or(0.0, |it| median(&it.costs));
        for subject in subjects {
            let cost = median(&subject.costs);
            let (low, high) = middle_half(&subject.costs);
            text.push_str(&format!(
                "| {:02} | {cost:.0} | {low:.0} to {high:.0} | {:+.0} | {} | {} | {} |\n",
                subject.step.number(),
                cost - first,
                subject.each.spans,
                subject.each.records,
                subject.lost.spans + subject.lost.records,
            ));
        }
        text
    }
}

/// The system with `program` in it, connected to the queue.
fn start(program: &Path, variables: &[(&str, &str)]) -> Result<Lab, Error> {
    // RabbitMQ would take its own time from the same cores.
    let mut lab = Lab::start(LabConfig::new(BrokerChoice::Embedded))?;
    lab.spawn(&Program::tier1(program), variables)?;
    match lab.get_until_connected()?.status {
        200 => Ok(lab),
        other => Err(Error::NotAnswered(other)),
    }
}

/// `requests` times `/fast`, over `connections` connections that stay open.
async fn load(url: &str, requests: u32, connections: u32) -> Result<(), Error> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .map_err(|error| Error::Load(error.to_string()))?;
    let url = format!("{url}/fast");
    let workers = (0..connections).map(|worker| {
        let mine = requests / connections + u32::from(worker < requests % connections);
        let (client, url) = (client.clone(), url.clone());
        async move {
            for _ in 0..mine {
                let answer = client.get(&url).send().await;
                let answer = answer.map_err(|error| Error::Load(error.to_string()))?;
                let status = answer.status().as_u16();
                // To its end, or the connection is not used again.
                let _ = answer.bytes().await;
                if status != 200 {
                    return Err(Error::NotAnswered(status));
                }
            }
            Ok(())
        }
    });
    future::try_join_all(workers).await.map(|_| ())
}

/// What arrived from tier1.
fn arrived(recording: &Recording) -> Arrived {
    Arrived {
        spans: recording
            .spans
            .iter()
            .filter(|span| trace::is_own(span))
            .count(),
        records: recording.records().count(),
    }
}

/// What processes that have ended used of the processor: user and system.
fn children() -> Result<Duration, Error> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(std::io::Error::from)?;
    let time = usage.user_time() + usage.system_time();
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec()).unwrap_or(0);
    Ok(Duration::from_secs(seconds) + Duration::from_micros(micros))
}

fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// Between what the middle half of `values` is.
fn middle_half(values: &[f64]) -> (f64, f64) {
    (quantile(values, 0.25), quantile(values, 0.75))
}

/// Between two values, their weighted mean.
fn quantile(values: &[f64], part: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else {
        return 0.0;
    };
    let at = part * last as f64;
    let (below, above) = (values[at.floor() as usize], values[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
        assert_eq!(middle_half(&[5.0, 1.0, 3.0, 2.0, 4.0]), (2.0, 4.0));
    }
}
