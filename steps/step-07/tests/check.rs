//! The check of step 07, Configured from outside.

use lab::{Ask, CALLER_TRACE, Case, Diagnosis, Kind, Lab, Outcome, Part, Recording};
use opentelemetry_semantic_conventions::attribute;
use otlp::{Span, Value};

fn main() -> std::process::ExitCode {
    lab::check!("07", "Configured from outside")
        .chapter("07-configured-from-outside")
        .otherwise("telemetry.rs", 4)
        .named(
            "EXPORTER",
            "telemetry.rs",
            4,
            "The exporters are fixed in the code.",
        )
        .named("NAME", "telemetry.rs", 3, "The name is fixed in the code.")
        .named(
            "RESOURCE",
            "telemetry.rs",
            3,
            "The resource is made in the code alone.",
        )
        .named(
            "PROPAGATORS",
            "telemetry.rs",
            1,
            "The propagator is fixed in the code, or set too late.",
        )
        .named(
            "BAGGAGE",
            "telemetry.rs",
            1,
            "The propagator is fixed in the code, or set too late.",
        )
        .named(
            "PROTOCOL",
            "telemetry.rs",
            5,
            "The builder pins the protocol, or leaves it to the exporter, whose own default is JSON.",
        )
        .named(
            "TLS",
            "telemetry.rs",
            5,
            "The exporter's client trusts the system's authorities only.",
        )
        .named("CONFIG", "telemetry.rs", 2, "The variable isn't read: each has its function in `otel_env.rs`.")
        .cause(
            Kind::Unexpected,
            "telemetry.rs",
            2,
            "OTEL_SDK_DISABLED isn't read (TODO 2), or no propagator is set, so that nobody hears \
             what a caller decided (TODO 1).",
        )
        .cause(Kind::Parent, "telemetry.rs", 1, PROPAGATOR)
        .cause(Kind::Inject, "telemetry.rs", 1, PROPAGATOR)
        .cause(Kind::InjectMessage, "telemetry.rs", 1, PROPAGATOR)
        // The longest come early: the verdict waits for the last.
        .test("fast", fast)
        .test("tls", tls)
        .test("slow", slow)
        .test("exporters", exporters)
        .test("bad_values", bad_values)
        .test("error", error)
        .test("unknown_path", unknown_path)
        .test("caller", caller)
        .test("unsampled_caller", unsampled_caller)
        .test("disabled", disabled)
        .test("service_name", service_name)
        .test("resource", resource)
        .test("instances", instances)
        .test("propagators", propagators)
        .test("baggage", baggage)
        .test("protocols", protocols)
        .test("samplers", samplers)
        .test("headers", headers)
        .run()
}

/// The cause of what has to do with headers, in this step.
const PROPAGATOR: &str = "No propagator is set, or too late: it comes before \
                          `sdk_disabled` can end the function, since headers are passed on even then.";

/// The trace of step 06, with the whole of the original's variables.
fn fast(case: &Case) -> Outcome {
    let recording = case
        .ask("/fast")
        .variable("OTEL_SERVICE_NAME", "tier1-service")
        .variable("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        .variable("OTEL_TRACES_EXPORTER", "console,otlp_proto_http")
        .variable("OTEL_EXPORTER_OTLP_HEADERS", "x-honeycomb-team=key")
        .record()?;
    lab::assert_traces!(case, "fast", &recording)?;
    case.show_traces("GET /fast, configured as the original is", &recording);
    Ok(())
}

fn error(case: &Case) -> Outcome {
    let recording = case.ask("/error").record()?;
    lab::assert_traces!(case, "error", &recording)
}

/// As before, with the wait.
fn slow(case: &Case) -> Outcome {
    let recording = case.ask("/slow").record()?;
    lab::assert_traces!(case, "slow", &recording)
}

fn unknown_path(case: &Case) -> Outcome {
    let recording = case.ask("/nope").status(404).record()?;
    lab::assert_traces!(case, "unknown_path", &recording)
}

fn caller(case: &Case) -> Outcome {
    let recording = case.ask("/fast").caller("01").record()?;
    lab::assert_traces!(case, "caller", &recording)
}

fn unsampled_caller(case: &Case) -> Outcome {
    let recording = case.ask("/fast").caller("00").record()?;
    lab::assert_traces!(case, "unsampled_caller", &recording)
}

/// OTEL_TRACES_EXPORTER: where the span goes.
fn exporters(case: &Case) -> Outcome {
    for (value, to_stdout, to_receiver) in [
        ("", false, true),
        ("otlp", false, true),
        ("otlp_proto_http", false, true),
        ("console", true, false),
        ("console,otlp", true, true),
        (" otlp , console ", true, true),
        ("otlp,otlp", false, true),
        ("none", false, false),
    ] {
        let recording = one(case, &[("OTEL_TRACES_EXPORTER", value)])?;
        let got = (
            stdout(&recording).matches("Name         : GET\n").count(),
            tier1(&recording).len(),
        );
        let expected = (usize::from(to_stdout), usize::from(to_receiver));
        if got != expected {
            let sentence = format!("with OTEL_TRACES_EXPORTER={value:?} the span goes elsewhere");
            let tell =
                |(stdout, receiver)| format!("{stdout} to stdout, {receiver} to the receiver");
            return Err(case
                .told("EXPORTER", sentence, &tell(expected), &tell(got))
                .into());
        }
    }
    Ok(())
}

/// OTEL_SDK_DISABLED: no span, but the caller's context goes through.
fn disabled(case: &Case) -> Outcome {
    let recording = case
        .ask("/fast")
        .variable("OTEL_SDK_DISABLED", "true")
        .caller("01")
        .record()?;
    lab::assert_traces!(case, "disabled", &recording)?;
    let others = recording.spans.iter();
    let elsewhere: Vec<_> = others
        .filter(|span| span.trace_id.to_string() != CALLER_TRACE)
        .map(|span| span.name.as_str())
        .collect();
    case.expect(
        "PROPAGATORS",
        "with OTEL_SDK_DISABLED=true, what is outside of the caller's trace",
        "",
        elsewhere.join(", ").as_str(),
    )
}

/// Who says what the service is called.
fn service_name(case: &Case) -> Outcome {
    const NAME: &str = "OTEL_SERVICE_NAME";
    const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[], "tier1-service"),
        (&[(NAME, "")], "tier1-service"),
        (&[(NAME, "other")], "other"),
        (&[(ATTRIBUTES, "service.name=third")], "third"),
        (
            &[(NAME, "other"), (ATTRIBUTES, "service.name=third")],
            "other",
        ),
    ];
    for (variables, expected) in cases {
        let recording = one(case, variables)?;
        let [span] = tier1(&recording)[..] else {
            return Err(case.diagnosis("NOTHING", "no span came").into());
        };
        if span.service() != *expected {
            let sentence = format!("with {variables:?} the service has another name");
            return Err(case.told("NAME", sentence, expected, span.service()).into());
        }
    }
    Ok(())
}

/// What else OTEL_RESOURCE_ATTRIBUTES says, and what nobody has to say.
fn resource(case: &Case) -> Outcome {
    let attributes =
        "deployment.environment.name=staging, team=a%2Cb%20c ,service.version=9,empty=";
    let recording = one(case, &[("OTEL_RESOURCE_ATTRIBUTES", attributes)])?;
    let [span] = tier1(&recording)[..] else {
        return Err(case.diagnosis("NOTHING", "no span came").into());
    };
    for (key, expected) in [
        (attribute::DEPLOYMENT_ENVIRONMENT_NAME, "staging"),
        ("team", "a,b c"),
        (attribute::SERVICE_VERSION, "9"),
        ("empty", ""),
        (attribute::TELEMETRY_SDK_LANGUAGE, "rust"),
        (attribute::TELEMETRY_SDK_NAME, "opentelemetry"),
    ] {
        let got = span.resource.attribute(key);
        if got != Some(&Value::from(expected)) {
            let sentence = format!("`{key}` of the resource is not as expected");
            let got = got.map_or_else(|| "no such attribute".to_owned(), ToString::to_string);
            return Err(case
                .told("RESOURCE", sentence, &format!("{expected:?}"), &got)
                .into());
        }
    }
    Ok(())
}

/// A version, and an id that another process doesn't have.
fn instances(case: &Case) -> Outcome {
    let mut ids = Vec::new();
    for _ in 0..2 {
        let recording = one(case, &[])?;
        let [span] = tier1(&recording)[..] else {
            return Err(case.diagnosis("NOTHING", "no span came").into());
        };
        for key in [attribute::SERVICE_VERSION, attribute::SERVICE_INSTANCE_ID] {
            if !matches!(span.resource.attribute(key), Some(Value::Str(text)) if !text.is_empty()) {
                let sentence = format!("the resource has no `{key}`");
                return Err(case.diagnosis("RESOURCE", sentence).into());
            }
        }
        ids.push(
            span.resource
                .attribute(attribute::SERVICE_INSTANCE_ID)
                .map(ToString::to_string),
        );
    }
    case.expect(
        "RESOURCE",
        "whether two processes have two values of `service.instance.id`",
        true,
        ids[0] != ids[1],
    )
}

/// OTEL_PROPAGATORS: whether the caller is heard.
fn propagators(case: &Case) -> Outcome {
    for (value, is_heard) in [
        ("", true),
        ("tracecontext", true),
        ("baggage,tracecontext", true),
        ("baggage", false),
        ("none", false),
    ] {
        let recording = alone(case, &[("OTEL_PROPAGATORS", value)])
            .caller("01")
            .record()?;
        let [span] = tier1(&recording)[..] else {
            return Err(case.diagnosis("NOTHING", "no span came").into());
        };
        let got = span.trace_id.to_string() == CALLER_TRACE;
        if got != is_heard {
            let sentence =
                format!("with OTEL_PROPAGATORS={value:?} the span is in the wrong trace");
            let tell = |heard| {
                if heard {
                    "the caller's trace"
                } else {
                    "a trace of its own"
                }
            };
            return Err(case
                .told("PROPAGATORS", sentence, tell(is_heard), tell(got))
                .into());
        }
    }
    Ok(())
}

/// What the caller sends along reaches the message, unless it is not to.
fn baggage(case: &Case) -> Outcome {
    let of_messages = |propagators: &str, sent: &[&[&str]]| {
        let config = case.config().without(Part::Consumer);
        let lab = case.start_with(config, &[("OTEL_PROPAGATORS", propagators)])?;
        let mut came = Vec::new();
        for headers in sent {
            let headers: Vec<_> = headers.iter().map(|list| ("baggage", *list)).collect();
            lab.request("GET", "/fast", &headers)?;
            let messages = lab.take_messages()?;
            case.expect("MESSAGES", "the number of messages", 1, messages.len())?;
            let headers = messages[0].headers_as_text();
            let baggage = headers.lines().find(|line| line.starts_with("baggage:"));
            came.push(baggage.unwrap_or("none").to_owned());
        }
        Ok::<_, lab::Failure>((came, lab.finish()?))
    };
    let off: &[&str] = &["tenant=7"];
    let (came, _) = of_messages("tracecontext", &[off])?;
    let what = "with OTEL_PROPAGATORS=tracecontext, the baggage of the message";
    case.expect("BAGGAGE", what, "none", &came[0])?;

    // As it came: what it means is between the caller and those who read it.
    let cases: [(&[&str], &str); 6] = [
        (&["tenant=7"], "tenant=7"),
        (&["key=YWJj=="], "key=YWJj=="),
        (&["rate=50%25"], "rate=50%25"),
        (&["tenant=7;from=x%2Cy=1"], "tenant=7;from=x%2Cy=1"),
        (&["", "tenant=7"], "tenant=7"),
        // What can't be read is left out, and no log says what it was.
        (&["s3cr3t,=,a b=c,tenant=7,"], "tenant=7"),
    ];
    let (came, recording) = of_messages("", &cases.map(|(sent, _)| sent))?;
    for ((sent, expected), came) in cases.into_iter().zip(came) {
        let what = format!("with the caller's baggage {sent:?}, that of the message");
        let expected = format!("baggage: long string {expected:?}");
        case.expect("BAGGAGE", &what, expected, came)?;
    }
    let lines = recording.lines();
    match lines.iter().find(|line| line.text.contains("s3cr3t")) {
        Some(line) => {
            let sentence = "a caller's baggage is on a log line";
            Err(case.told("BAGGAGE", sentence, "none", &line.text).into())
        }
        None => Ok(()),
    }
}

/// OTEL_EXPORTER_OTLP_PROTOCOL: how spans are written.
fn protocols(case: &Case) -> Outcome {
    const PROTOBUF: &str = "application/x-protobuf";
    const JSON: &str = "application/json";
    const ALL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
    const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL";
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[(ALL, "")], PROTOBUF),
        (&[(ALL, "http/protobuf")], PROTOBUF),
        (&[(ALL, "http/json")], JSON),
        (&[(ALL, "http/protobuf"), (TRACES, "http/json")], JSON),
    ];
    for (variables, expected) in cases {
        let recording = one(case, variables)?;
        let types: Vec<_> = requests_of_tier1(&recording)
            .map(|request| request.content_type.clone().unwrap_or_default())
            .collect();
        if types != [(*expected).to_owned()] {
            let sentence = format!("with {variables:?} spans are written otherwise");
            return Err(case
                .told("PROTOCOL", sentence, expected, &types.join(", "))
                .into());
        }
    }
    Ok(())
}

/// The sampler's variables, which the SDK reads itself, unless the code overrules them.
fn samplers(case: &Case) -> Outcome {
    let cases: &[(&str, &str, &str, usize)] = &[
        ("always_off", "", "01", 0),
        ("always_on", "", "00", 1),
        ("traceidratio", "0", "01", 0),
        ("parentbased_always_off", "", "01", 1),
        ("parentbased_traceidratio", "1", "00", 0),
    ];
    for (sampler, argument, flags, expected) in cases {
        let variables = [
            ("OTEL_TRACES_SAMPLER", *sampler),
            ("OTEL_TRACES_SAMPLER_ARG", *argument),
        ];
        let recording = alone(case, &variables).caller(flags).record()?;
        case.expect(
            "SAMPLER",
            &format!("with {variables:?} and a caller's flags {flags}, the number of spans"),
            *expected,
            tier1(&recording).len(),
        )?;
    }
    Ok(())
}

/// A key reaches the backend, and nothing else.
fn headers(case: &Case) -> Outcome {
    let recording = one(
        case,
        &[
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "x-honeycomb-team=s3cr3t%3D,x-dataset=a",
            ),
            ("OTEL_TRACES_EXPORTER", "console,otlp"),
            ("RUST_LOG", "trace"),
        ],
    )?;
    for (name, expected) in [("x-honeycomb-team", "s3cr3t="), ("x-dataset", "a")] {
        let got: Vec<_> = requests_of_tier1(&recording)
            .map(|request| request.header(name).unwrap_or("no such header").to_owned())
            .collect();
        if got != [expected.to_owned()] {
            let sentence =
                format!("the header {name} of OTEL_EXPORTER_OTLP_HEADERS does not arrive");
            return Err(case
                .told("HEADERS", sentence, expected, &got.join(", "))
                .into());
        }
    }
    let exit = recording.exit.as_ref();
    let written = exit.map(|exit| format!("{}{}", exit.stdout, exit.stderr));
    let written = written.unwrap_or_default();
    match written.lines().find(|line| line.contains("s3cr3t")) {
        Some(line) => Err(case
            .told(
                "SECRET",
                "the key of OTEL_EXPORTER_OTLP_HEADERS is printed",
                "no key",
                line,
            )
            .into()),
        None => Ok(()),
    }
}

/// A receiver behind TLS, whose authority only OTEL_EXPORTER_OTLP_CERTIFICATE names.
fn tls(case: &Case) -> Outcome {
    for is_named in [true, false] {
        let mut lab = Lab::start(case.alone())?;
        let front = lab.receiver_behind_tls()?;
        let (endpoint, authority) = (front.endpoint(), front.authority().display().to_string());
        let mut variables = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
        if is_named {
            variables.push(("OTEL_EXPORTER_OTLP_CERTIFICATE", authority.as_str()));
        }
        lab.spawn(case.program(), &variables)?;
        lab.get("/nope")?;
        let recording = lab.finish()?;
        case.expect(
            "TLS",
            &format!(
                "the number of spans that reach a receiver behind TLS, its authority {}named by OTEL_EXPORTER_OTLP_CERTIFICATE,",
                if is_named { "" } else { "not " }
            ),
            usize::from(is_named),
            tier1(&recording).len(),
        )?;
    }
    Ok(())
}

/// One line each, and the default.
fn bad_values(case: &Case) -> Outcome {
    for (name, value, todo) in [
        ("OTEL_SDK_DISABLED", "s3cr3t", 2),
        ("OTEL_TRACES_EXPORTER", "s3cr3t", 4),
        ("OTEL_PROPAGATORS", "s3cr3t", 1),
        ("OTEL_RESOURCE_ATTRIBUTES", "team=%zz", 3),
        ("OTEL_RESOURCE_ATTRIBUTES", "s3cr3t", 3),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "s3cr3t", 5),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such/s3cr3t", 5),
    ] {
        let recording = one(case, &[(name, value)])?;
        let stderr = recording.exit.as_ref().map(|exit| exit.stderr.as_str());
        let lines: Vec<_> = stderr
            .unwrap_or_default()
            .lines()
            .filter(|line| line.starts_with("tier1: OTEL_"))
            .collect();
        let says = format!("tier1: {name} must be ");
        let is_told =
            matches!(lines[..], [line] if line.starts_with(&says) && !line.contains("s3cr3t"));
        if !is_told {
            let sentence =
                format!("{name}={value:?} is not answered by one line that names the variable");
            let told = case.told("CONFIG", sentence, &format!("{says}…"), &lines.join("\n"));
            return Err(Diagnosis {
                next: case.next("telemetry.rs", todo),
                ..told
            }
            .into());
        }
        case.expect(
            "CONFIG",
            &format!("with {name}={value:?}, the number of spans"),
            1,
            tier1(&recording).len(),
        )?;
    }
    Ok(())
}

/// One request to an unknown path, which touches no neighbour, and its one span.
fn one(case: &Case, variables: &[(&str, &str)]) -> Result<Recording, lab::Failure> {
    alone(case, variables).record()
}

fn alone<'a>(case: &'a Case, variables: &[(&'a str, &'a str)]) -> Ask<'a> {
    let variables = variables.iter();
    variables.fold(case.ask_alone(), |ask, (name, value)| {
        ask.variable(name, value)
    })
}

fn stdout(recording: &Recording) -> &str {
    recording.exit.as_ref().map_or("", |exit| &exit.stdout)
}

fn tier1(recording: &Recording) -> Vec<&Span> {
    recording
        .spans
        .iter()
        .filter(|span| span.name == "GET")
        .collect()
}

/// The exports: nobody else has any, as an unknown path touches no neighbour.
fn requests_of_tier1(recording: &Recording) -> impl Iterator<Item = &otlp::Request> {
    recording
        .requests
        .iter()
        .filter(|request| request.spans > 0)
}
