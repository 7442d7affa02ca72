//! What holds while RabbitMQ itself fails under load: it is stopped, killed,
//! restarted, and runs out of memory, in a container of these tests' own.
//!
//! Two labs are under load at a time, each in a virtual host. In one the system's own
//! consumer takes the messages: it has to recover. In the other a witness takes
//! them and keeps what they were: each confirmed message has to be among them.

use std::{
    collections::HashSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use containers::OwnRabbitMq;

use crate::{
    BrokerChoice, Case, Failure, Lab, LabConfig, LabError, Outcome, Part, Test,
    witness::{Seen, Witness},
};

/// All tests, by name. They need Docker.
pub const ALL: [(&str, Test); 1] = [("what_rabbitmq_confirmed_survives", |case| {
    let rabbitmq = OwnRabbitMq::start_new()?;
    for (name, outage) in OUTAGES {
        survives(case, &rabbitmq, name, outage)?;
    }
    Ok(())
})];

/// Makes an outage, calls `lasting` while it lasts, and ends it.
type Outage = fn(&OwnRabbitMq, lasting: &dyn Fn() -> Outcome) -> Outcome;

const OUTAGES: [(&str, Outage); 4] = [
    ("stopped", |rabbitmq, lasting| {
        rabbitmq.stop()?;
        lasting()?;
        Ok(rabbitmq.start()?)
    }),
    ("killed", |rabbitmq, lasting| {
        rabbitmq.kill()?;
        lasting()?;
        Ok(rabbitmq.start()?)
    }),
    ("restarted", |rabbitmq, lasting| {
        rabbitmq.control(&["stop_app"])?;
        lasting()?;
        rabbitmq.control(&["start_app"])?;
        Ok(rabbitmq.wait_until_ready()?)
    }),
    // It reads no more from connections that publish.
    ("out of memory", |rabbitmq, lasting| {
        rabbitmq.control(&["set_vm_memory_high_watermark", "0.00001"])?;
        lasting()?;
        rabbitmq.control(&["set_vm_memory_high_watermark", "0.4"])?;
        Ok(())
    }),
];

/// How long a message waits for its confirm.
const QUEUE_TIMEOUT: Duration = Duration::from_millis(500);

/// How much longer a request may take: saas, tier2, and a loaded machine. An outage
/// lasts longer, so that a request that waits for its end is found out.
const SLACK: Duration = Duration::from_secs(3);

/// How long each outage lasts at the least.
const LASTING: Duration = Duration::from_secs(5);

/// How long tier1 and the consumer may take to be at work again. Their longest pause
/// between two attempts is 5 s.
const RECOVERY: Duration = Duration::from_secs(60);

/// How many callers each lab has, and how long each rests between two requests.
const CALLERS: usize = 3;
const REST: Duration = Duration::from_millis(5);

/// How many messages have to come before the outage, and again after it.
const SOME: u64 = 20;

/// From when to when.
type Interval = (SystemTime, SystemTime);

/// A request and its answer, in the time of the system's clock.
struct Call {
    began: SystemTime,
    ended: SystemTime,
    status: u16,
    elapsed: Duration,
}

fn survives(case: &Case, rabbitmq: &OwnRabbitMq, name: &str, outage: Outage) -> Outcome {
    let config = || -> Result<LabConfig, LabError> {
        Ok(LabConfig {
            queue_timeout: QUEUE_TIMEOUT,
            broker: BrokerChoice::Url(rabbitmq.new_vhost()?),
            ..case.config()
        })
    };
    let consumed = case.start_with(config()?, &[])?;
    let witnessed = case.start_with(config()?.without(Part::Consumer), &[])?;
    // A queue that isn't connected yet refuses, too, and that is no outage.
    case.connected(&consumed)?;
    case.connected(&witnessed)?;
    let witness = Witness::start(&witnessed)?;

    let done = AtomicBool::new(false);
    let calls = [Mutex::new(Ok(Vec::new())), Mutex::new(Ok(Vec::new()))];
    let outcome = thread::scope(|scope| {
        for (lab, calls) in [&consumed, &witnessed].into_iter().zip(&calls) {
            for _ in 0..CALLERS {
                scope.spawn(|| call_until(lab, &done, calls));
            }
        }
        let outcome = (|| {
            some_more(case, name, "before", &consumed, &witness)?;
            outage(rabbitmq, &|| {
                let began = Instant::now();
                let so_far = calls.each_ref().map(refused);
                // Both must notice, or nothing is tested.
                let noticed = || (calls.iter().zip(so_far)).all(|(now, then)| refused(now) > then);
                while began.elapsed() < LASTING || !noticed() {
                    if began.elapsed() > RECOVERY {
                        return told(case, name, "UNNOTICED", "no request was refused meanwhile");
                    }
                    thread::sleep(Duration::from_millis(20));
                }
                Ok(())
            })?;
            some_more(case, name, "after", &consumed, &witness)
        })();
        done.store(true, Ordering::Relaxed);
        outcome
    });
    let [calls_consumed, calls_witnessed] = calls.map(|calls| {
        let calls: Result<Vec<Call>, LabError> =
            calls.into_inner().unwrap_or_else(PoisonError::into_inner);
        calls
    });
    // A request without an answer is what is wrong, whatever else came of it.
    let (calls_consumed, calls_witnessed) = (calls_consumed?, calls_witnessed?);
    outcome?;
    for call in calls_consumed.iter().chain(&calls_witnessed) {
        in_order(case, name, call)?;
    }

    // Nothing is published from here on.
    let seen = witness.finish(witnessed)?;
    nothing_is_lost(case, name, &calls_witnessed, &seen)?;
    duplicates_are_flagged(case, name, &seen)?;

    let recording = consumed.finish()?;
    let ids = crate::behaviour::consumed_ids(&recording);
    if ids.len() < confirmed(&calls_consumed).count() {
        let sentence = format!(
            "{} messages were confirmed, {} came to the consumer",
            confirmed(&calls_consumed).count(),
            ids.len()
        );
        return told(case, name, "LOST", &sentence);
    }
    Ok(())
}

/// Requests until it is `done`. A request without an answer is an error.
fn call_until(lab: &Lab, done: &AtomicBool, calls: &Mutex<Result<Vec<Call>, LabError>>) {
    while !done.load(Ordering::Relaxed) {
        let began = SystemTime::now();
        let answer = lab.get("/fast");
        let ended = SystemTime::now();
        let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
        match (answer, &mut *calls) {
            (Ok(answer), Ok(calls)) => calls.push(Call {
                began,
                ended,
                status: answer.status,
                elapsed: answer.elapsed,
            }),
            (Err(error), calls) => *calls = Err(error),
            (Ok(_), Err(_)) => {}
        }
        drop(calls);
        thread::sleep(REST);
    }
}

/// Waits for more messages on both sides.
fn some_more(case: &Case, name: &str, when: &str, lab: &Lab, witness: &Witness) -> Outcome {
    let received = lab.consumed().received;
    let seen = witness.count();
    if lab.wait_for_consumed(received + SOME, RECOVERY).is_err() {
        let sentence = format!("{when} the outage the consumer got no more messages");
        return told(case, name, "CONSUMER", &sentence);
    }
    let began = Instant::now();
    while witness.count() < seen + SOME as usize {
        if began.elapsed() > RECOVERY {
            let sentence = format!("{when} the outage tier1 published no more messages");
            return told(case, name, "PUBLISHER", &sentence);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// How many requests were refused; more than any number, if one got no answer.
fn refused(calls: &Mutex<Result<Vec<Call>, LabError>>) -> usize {
    match &*calls.lock().unwrap_or_else(PoisonError::into_inner) {
        Ok(calls) => calls.iter().filter(|call| call.status == 503).count(),
        Err(_) => usize::MAX,
    }
}

fn confirmed(calls: &[Call]) -> impl Iterator<Item = &Call> {
    calls.iter().filter(|call| call.status == 200)
}

/// It was confirmed, or refused, and either in time.
fn in_order(case: &Case, name: &str, call: &Call) -> Outcome {
    if !matches!(call.status, 200 | 503) {
        let sentence = format!("a request was answered {}", call.status);
        return told(case, name, "STATUS", &sentence);
    }
    if call.elapsed > QUEUE_TIMEOUT + SLACK {
        let sentence = format!(
            "a request took {:?}, QUEUE_TIMEOUT_MS being {QUEUE_TIMEOUT:?}",
            call.elapsed
        );
        return told(case, name, "QUEUE-TIMEOUT", &sentence);
    }
    Ok(())
}

/// For each confirmed request there is a message of its own that was made while the
/// request was under way. A message says when it was made; it doesn't name its request.
fn nothing_is_lost(case: &Case, name: &str, calls: &[Call], seen: &[Seen]) -> Outcome {
    let mut ids = HashSet::new();
    let mut made: Vec<SystemTime> = seen
        .iter()
        .filter(|seen| ids.insert(seen.message_id.as_str()))
        .filter_map(|seen| made_at(&seen.body))
        .collect();
    if made.len() != ids.len() {
        return told(case, name, "BODY", "a message's body says no time");
    }
    let calls = confirmed(calls).map(|call| (call.began, call.ended));
    let calls: Vec<_> = calls.collect();
    let lost = unmatched(calls.clone(), &mut made);
    if lost.is_empty() {
        return Ok(());
    }
    let sentence = format!(
        "of {} confirmed messages {} were lost",
        calls.len(),
        lost.len()
    );
    let sentence = format!("RabbitMQ {name}: {sentence}");
    let first = calls.iter().map(|(began, _)| *began).min();
    let since = |time: SystemTime| match first.map(|first| time.duration_since(first)) {
        Some(Ok(after)) => format!("{after:.3?}"),
        _ => "before".to_owned(),
    };
    let mut got = String::from("the time of each that came, since the first request:");
    for time in made {
        got.push_str(&format!(" {}", since(time)));
    }
    let mut expected = String::from("one that was made between");
    for (began, ended) in lost {
        expected.push_str(&format!(" {} and {},", since(began), since(ended)));
    }
    Err(case.told("LOST", sentence, &expected, &got).into())
}

/// The intervals that get no time of their own: the earliest of those that lie in it
/// is given to the interval that ends first, which leaves the others the most.
fn unmatched(mut intervals: Vec<Interval>, times: &mut [SystemTime]) -> Vec<Interval> {
    // Both clocks are one, but read in microseconds on one side.
    const GRAIN: Duration = Duration::from_micros(2);
    intervals.sort_by_key(|(_, end)| *end);
    times.sort();
    let mut taken = vec![false; times.len()];
    let mut lost = Vec::new();
    for (start, end) in intervals {
        let first = times.partition_point(|time| *time + GRAIN < start);
        let free = (first..times.len())
            .take_while(|&index| times[index] <= end + GRAIN)
            .find(|&index| !taken[index]);
        match free {
            Some(index) => taken[index] = true,
            None => lost.push((start, end)),
        }
    }
    lost
}

/// The time in `fast 1732537000.250000`.
fn made_at(body: &str) -> Option<SystemTime> {
    let (_, time) = body.split_once(' ')?;
    let (seconds, micros) = time.split_once('.')?;
    let since = Duration::from_secs(seconds.parse().ok()?)
        + Duration::from_micros(micros.parse().ok().filter(|_| micros.len() == 6)?);
    SystemTime::UNIX_EPOCH.checked_add(since)
}

/// tier1 sends a message once; what comes twice was delivered twice.
fn duplicates_are_flagged(case: &Case, name: &str, seen: &[Seen]) -> Outcome {
    let mut ids = HashSet::new();
    for seen in seen {
        if !ids.insert(&seen.message_id) && !seen.redelivered {
            let sentence = format!(
                "message {} came twice, and not as redelivered",
                seen.message_id
            );
            return told(case, name, "DUPLICATE", &sentence);
        }
    }
    Ok(())
}

fn told(case: &Case, outage: &str, kind: &str, sentence: &str) -> Outcome {
    let sentence = format!("RabbitMQ {outage}: {sentence}");
    Err(Failure::from(case.diagnosis(kind, sentence)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    }

    #[test]
    fn a_lost_message_is_missed() {
        let intervals = || vec![(at(0), at(100)), (at(10), at(20)), (at(30), at(40))];
        assert_eq!(unmatched(intervals(), &mut [at(15), at(35), at(90)]), []);
        // The one that spans them all takes what the others leave.
        assert_eq!(unmatched(intervals(), &mut [at(35), at(15), at(16)]), []);
        // One of another request doesn't stand in for it.
        assert_eq!(
            unmatched(intervals(), &mut [at(15), at(90), at(200)]),
            [(at(30), at(40))]
        );
        assert_eq!(unmatched(intervals(), &mut []).len(), 3);
    }

    #[test]
    fn a_body_says_when_it_was_made() {
        let made = made_at("fast 1.250000").expect("it does");
        assert_eq!(made, at(1250));
        for body in ["fast", "fast 1", "fast 1.25", "fast x.250000", ""] {
            assert_eq!(made_at(body), None, "{body}");
        }
    }
}
