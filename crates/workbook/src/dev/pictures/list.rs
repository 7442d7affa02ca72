//! Which pictures there are: the one place that says it.

use std::time::Duration;

use lab::Part;
use otlp::{Expected, NormalSpan, Shown, StatusCode, Value};

/// A picture of the book, and how it is made.
#[derive(Clone, Copy)]
pub struct Picture {
    /// The name of its files, without their endings. It begins with the solution's number.
    pub name: &'static str,
    /// What it shows, for those who don't see it.
    pub title: &'static str,
    /// The solution that runs. Solution 13 is a consumer, beside the tier1
    /// whose snapshot it is compared with.
    pub solution: u8,
    /// What is asked for.
    pub path: &'static str,
    /// Which of the requests is shown, and how it ends.
    pub scene: Scene,
    /// What is left out of the system.
    pub without: &'static [Part],
    /// Further variables of the program.
    pub variables: &'static [(&'static str, &'static str)],
    /// Which logs are shown.
    pub logs: Logs,
    /// The snapshot that the recording must equal: the step, and the name in its check.
    pub snapshot: (u8, &'static str),
    /// How the recording differs from that, where it is to.
    pub but: fn(&mut Expected),
}

/// Which request is shown, and how it ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// The second of two: connections are there.
    Second,
    /// The first of all, which makes the connections.
    First,
    /// The second, and the program is told to stop right after the answer. Spans are
    /// exported as seldom as it is the default.
    Stopped,
    /// The second. saas doesn't answer it, and the caller hangs up after this time.
    HungUp(Duration),
    /// The second. saas doesn't answer it, and tier1 gives up after this time.
    GivenUp(Duration),
}

/// Which logs are shown under their spans.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Logs {
    /// None.
    None,
    /// The log records that were exported.
    Records,
    /// The lines on stdout, put under the spans by the ids that they carry.
    Lines,
}

/// The picture of the solution's `/fast`, unless said otherwise.
const fn picture(
    name: &'static str,
    title: &'static str,
    solution: u8,
    snapshot: &'static str,
) -> Picture {
    Picture {
        name,
        title,
        solution,
        path: "/fast",
        scene: Scene::Second,
        without: &[],
        variables: &[],
        logs: Logs::None,
        snapshot: (solution, snapshot),
        but: |_| {},
    }
}

/// One that asks for something else.
const fn asking(
    path: &'static str,
    name: &'static str,
    title: &'static str,
    solution: u8,
    snapshot: &'static str,
) -> Picture {
    let mut picture = picture(name, title, solution, snapshot);
    picture.path = path;
    picture
}

/// How long the caller of the pictures that hang up waits, and tier1 in those where it
/// is the one that gives up.
const PATIENCE: Duration = Duration::from_millis(500);

/// Another name for tier1, given from outside.
const RENAMED: &str = "signup-frontend";
const RENAMING: &[(&str, &str)] = &[("OTEL_SERVICE_NAME", RENAMED)];

/// All of them, in the order of their names.
pub const PICTURES: &[Picture] = &[
    asking(
        "/error",
        "01-error",
        "GET /error in step 01: two traces, the error in one of its own",
        1,
        "error",
    ),
    picture(
        "01-fast",
        "GET /fast in step 01: two traces, and tier1 in neither",
        1,
        "fast",
    ),
    asking(
        "/slow",
        "01-slow",
        "GET /slow in step 01: two short traces",
        1,
        "slow",
    ),
    asking(
        "/error",
        "02-error",
        "GET /error in step 02: three traces, tier1's without an error",
        2,
        "error",
    ),
    asking(
        "/slow",
        "02-slow",
        "GET /slow in step 02: three traces, the 1.5 seconds in tier1's",
        2,
        "slow",
    ),
    Picture {
        scene: Scene::Stopped,
        but: |expected| without_service(expected, "tier1-service"),
        ..picture(
            "02-stopped",
            "GET /fast in step 02, and tier1 is stopped after it: its span is lost",
            2,
            "fast",
        )
    },
    Picture {
        scene: Scene::Stopped,
        ..picture(
            "03-stopped",
            "GET /fast in step 03, and tier1 is stopped after it: its span is there",
            3,
            "fast",
        )
    },
    Picture {
        without: &[Part::Tier2],
        ..picture(
            "03-tier2-stopped",
            "GET /fast in step 03, tier2 is stopped: a span that says HTTP 502",
            3,
            "tier2_stopped",
        )
    },
    asking(
        "/error",
        "04-error",
        "GET /error in step 04: the error in one trace, the request in another",
        4,
        "error",
    ),
    Picture {
        without: &[Part::Tier2],
        ..picture(
            "04-tier2-stopped",
            "GET /fast in step 04, tier2 is stopped: a span with the error type 502",
            4,
            "tier2_stopped",
        )
    },
    asking(
        "/error",
        "05-error",
        "GET /error in step 05: one trace through tier1 to tier2, red under a green root",
        5,
        "error",
    ),
    Picture {
        scene: Scene::First,
        ..picture(
            "05-first",
            "The first GET /fast in step 05: a trace of two services, another of consumer's",
            5,
            "fast",
        )
    },
    asking(
        "/slow",
        "05-slow",
        "GET /slow in step 05: between two short calls nothing for 1.5 seconds",
        5,
        "slow",
    ),
    picture(
        "06-fast",
        "GET /fast in step 06: one trace through tier1, consumer and tier2",
        6,
        "fast",
    ),
    Picture {
        scene: Scene::First,
        ..picture(
            "06-first",
            "The first GET /fast in step 06: most of it is the publish",
            6,
            "fast",
        )
    },
    Picture {
        variables: RENAMING,
        ..picture(
            "06-renamed",
            "GET /fast in step 06 with OTEL_SERVICE_NAME=signup-frontend: it is tier1-service",
            6,
            "fast",
        )
    },
    picture(
        "07-fast",
        "GET /fast in step 07: no line of the log under its spans",
        7,
        "fast",
    ),
    Picture {
        variables: RENAMING,
        but: |expected| renamed(expected, "tier1-service", RENAMED),
        ..picture(
            "07-renamed",
            "GET /fast in step 07 with OTEL_SERVICE_NAME=signup-frontend: it is signup-frontend",
            7,
            "fast",
        )
    },
    picture(
        "08-fast",
        "GET /fast in step 08: the trace has no logs",
        8,
        "fast",
    ),
    Picture {
        logs: Logs::Lines,
        variables: &[("LOG_FORMAT", "json")],
        ..picture(
            "08-lines",
            "GET /fast in step 08, with the lines of stdout under the span whose ids they carry",
            8,
            "fast",
        )
    },
    Picture {
        logs: Logs::Records,
        ..picture(
            "09-fast",
            "GET /fast in step 09, with its log records",
            9,
            "fast",
        )
    },
    Picture {
        logs: Logs::Records,
        ..asking(
            "/slow",
            "09-slow",
            "GET /slow in step 09: 1.5 seconds in no span but the root",
            9,
            "slow",
        )
    },
    Picture {
        logs: Logs::Records,
        ..asking(
            "/error",
            "10-error",
            "GET /error in step 10: the call of tier2 is red, all above it is not",
            10,
            "error",
        )
    },
    Picture {
        but: delayed,
        logs: Logs::Records,
        ..asking(
            "/slow",
            "10-slow",
            "GET /slow in step 10: do_tier2 holds the 1.5 seconds",
            10,
            "slow",
        )
    },
    Picture {
        logs: Logs::Records,
        ..asking(
            "/error",
            "11-error",
            "GET /error in step 11: red from the root to where it failed",
            11,
            "error",
        )
    },
    Picture {
        logs: Logs::Records,
        scene: Scene::HungUp(PATIENCE),
        snapshot: (12, "hang_up"),
        but: no_errors,
        ..picture(
            "11-hung-up",
            "GET /fast in step 11, whose caller hangs up: nothing is red",
            11,
            "hang_up",
        )
    },
    Picture {
        logs: Logs::Records,
        scene: Scene::HungUp(PATIENCE),
        ..picture(
            "12-hung-up",
            "GET /fast in step 12, whose caller hangs up: root and do_saas are cancelled",
            12,
            "hang_up",
        )
    },
    Picture {
        logs: Logs::Records,
        ..asking(
            "/panic",
            "12-panic",
            "GET /panic in step 12: root and pure_bug are red",
            12,
            "panic",
        )
    },
    Picture {
        logs: Logs::Records,
        scene: Scene::GivenUp(PATIENCE),
        ..picture(
            "12-timeout",
            "GET /fast in step 12, saas takes too long: the call is red, too",
            12,
            "timeout",
        )
    },
    Picture {
        // A consumer that exports nothing and one that isn't there look the same from here.
        without: &[Part::Consumer],
        but: |expected| without_service(expected, "consumer-service"),
        ..picture(
            "12-unconsumed",
            "GET /fast beside a consumer without telemetry: the trace ends at publish signups",
            12,
            "fast",
        )
    },
    Picture {
        snapshot: (12, "fast"),
        ..picture(
            "13-fast",
            "GET /fast beside the finished consumer: the trace goes on to its database",
            13,
            "fast",
        )
    },
];

/// Takes a service's spans away, with what is under them.
fn without_service(expected: &mut Expected, service: &str) {
    fn among(spans: &mut Vec<NormalSpan>, service: &str) {
        spans.retain(|span| span.service != service);
        for span in spans {
            among(&mut span.children, service);
        }
    }
    for trace in &mut expected.traces {
        among(&mut trace.roots, service);
    }
    expected.traces.retain(|trace| !trace.roots.is_empty());
    for (trace, number) in expected.traces.iter_mut().zip(1..) {
        trace.number = number;
    }
}

/// Gives a service another name.
fn renamed(expected: &mut Expected, from: &str, to: &str) {
    each(expected, &|span| {
        if span.service == from {
            to.clone_into(&mut span.service);
        }
    });
}

/// Slow is as long as it is outside of checks.
fn delayed(expected: &mut Expected) {
    each(expected, &|span| {
        let attributes = span.events.iter_mut().flat_map(|it| &mut it.attributes);
        for attribute in attributes.filter(|it| it.key == "app.delay_ms") {
            attribute.value = Shown::Verbatim(Value::Int(1500));
        }
    });
}

/// Nobody says that anything went wrong.
fn no_errors(expected: &mut Expected) {
    each(expected, &|span| {
        span.status = StatusCode::Unset;
        span.attributes.retain(|it| it.key != "error.type");
    });
}

/// Does something with each span.
fn each(expected: &mut Expected, change: &dyn Fn(&mut NormalSpan)) {
    fn among(spans: &mut [NormalSpan], change: &dyn Fn(&mut NormalSpan)) {
        for span in spans {
            change(span);
            among(&mut span.children, change);
        }
    }
    for trace in &mut expected.traces {
        among(&mut trace.roots, change);
    }
}
