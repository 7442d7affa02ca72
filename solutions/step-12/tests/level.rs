//! The level of the whole process is the one that RUST_LOG asks for: no layer raises it.
//! The bridge did once, and nobody saw it until a client slept through its wake-up.

#![allow(dead_code, missing_docs)]

#[path = "../src/config.rs"]
mod config;
#[path = "../src/deadline.rs"]
mod deadline;
#[path = "../src/log_format.rs"]
mod log_format;
#[path = "../src/log_writer.rs"]
mod log_writer;
#[path = "../src/logging.rs"]
mod logging;
#[path = "../src/span_events.rs"]
mod span_events;

use std::{env, process::Command};

use opentelemetry_sdk::logs::SdkLoggerProvider;
use tracing::level_filters::LevelFilter;

/// Set in the process that has nothing else in its environment.
const ALONE: &str = "LEVEL_ALONE";

#[test]
fn it_is_that_of_rust_log() {
    if env::var_os(ALONE).is_none() {
        let this = env::current_exe().expect("the system knows what it runs");
        let status = Command::new(this).env_clear().env(ALONE, "1").status();
        assert!(status.expect("it starts again").success());
        return;
    }
    let Ok(mut config) = config::Config::from_env() else {
        panic!("the defaults are valid");
    };
    // With it there is one layer more.
    config.log_span_events = true;
    let provider = SdkLoggerProvider::builder().build();
    let log = logging::init(&config, Some(&provider));
    assert!(log.is_ok(), "the default is valid");
    assert_eq!(LevelFilter::current(), LevelFilter::INFO);
}

fn say(line: &str) {
    eprintln!("{line}");
}
