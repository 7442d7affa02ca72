//! tier1 behaves as it did before it was instrumented.

fn main() -> std::process::ExitCode {
    lab::check!("12", "Cut short: tier1's behaviour")
        .tests(lab::behaviour::ALL)
        .run()
}
