//! consumer behaves as it did before it was instrumented.

fn main() -> std::process::ExitCode {
    lab::check!("13", "The other side of the queue: consumer's behaviour")
        .consumer()
        .tests(lab::consumer_behaviour::ALL)
        .run()
}
