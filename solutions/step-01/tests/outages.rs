//! tier1 while RabbitMQ itself is stopped, killed, restarted, and out of memory.

fn main() -> std::process::ExitCode {
    lab::check!("01", "Meet tier1: outages of RabbitMQ")
        .with_docker(lab::outages::ALL)
        .run()
}
