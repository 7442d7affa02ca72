//! tier1 behaves as it did before it was instrumented.

fn main() -> std::process::ExitCode {
    lab::check!("01", "Meet tier1: its behaviour")
        .tests(lab::behaviour::ALL)
        .run()
}
