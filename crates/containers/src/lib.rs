//! RabbitMQ and PostgreSQL in Docker, for labs and tests.
//!
//! [`RabbitMq::shared`] is one container for the whole machine, which outlives the
//! process: later runs find it running. [`OwnRabbitMq`] and [`Postgres`] belong to one
//! test and go with it. Where Docker is, testcontainers finds out: DOCKER_HOST, or one
//! of the usual sockets.

mod docker;
mod error;
mod image;
mod lock;
mod management;
mod own;
mod owner;
mod rabbitmq;
mod runtime;
mod shared;
pub mod trials;

pub use docker::{Say, answers};
pub use error::Error;
pub use image::Image;
pub use lock::Lock;
pub use own::{OwnRabbitMq, Postgres};
pub use rabbitmq::{RabbitMq, Vhost};
pub use runtime::block_on;
pub use shared::{pull, stop};
