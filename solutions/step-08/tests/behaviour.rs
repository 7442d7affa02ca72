//! tier1 behaves as it did before it was instrumented.

fn main() -> std::process::ExitCode {
    lab::check!("08", "Logs that name their trace: tier1's behaviour")
        .tests(lab::behaviour::ALL)
        .run()
}
