//! tier1 behaves as it did before it was instrumented.

fn main() -> std::process::ExitCode {
    lab::check!("10", "Spans of your own: tier1's behaviour")
        .tests(lab::behaviour::ALL)
        .run()
}
