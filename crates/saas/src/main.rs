//! The saas binary: reads HOST and PORT, answers until ctrl-c or SIGTERM.

use std::process::ExitCode;

use saas::{Saas, SaasConfig};
use service::fail;

/// The port when PORT is not set.
const DEFAULT_PORT: u16 = 8082;

#[tokio::main]
async fn main() -> ExitCode {
    let addr = match service::address(DEFAULT_PORT) {
        Ok(addr) => addr,
        Err(reason) => return fail(&reason),
    };
    let config = SaasConfig {
        addr,
        ..SaasConfig::default()
    };
    let stopped = match service::stop_signal() {
        Ok(stopped) => stopped,
        Err(reason) => return fail(&reason),
    };
    let saas = match Saas::start(config).await {
        Ok(saas) => saas,
        Err(error) => return fail(&format!("HOST, PORT: cannot listen on {addr}: {error}")),
    };
    eprintln!("listening on http://{}", saas.addr());
    stopped.await;
    saas.stop().await;
    ExitCode::SUCCESS
}
