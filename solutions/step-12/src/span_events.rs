//! What is logged in a span as an event of that span, as the first guides had it.
//!
//! An event is stored with its span, so a backend shows it there without a query. It is sent
//! when the span ends, is lost with a span that isn't sampled, and a span keeps 128 of them.

use std::fmt::Debug;

use opentelemetry::{Context, KeyValue, trace::TraceContextExt};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer;

/// Adds each event of `tracing` to the current span, if that is recorded.
pub struct SpanEvents;

impl<S: Subscriber> tracing_subscriber::Layer<S> for SpanEvents {
    fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
        let context = Context::current();
        let span = context.span();
        if !span.is_recording() {
            return;
        }
        let level = event.metadata().level().as_str();
        let mut fields = Fields {
            message: String::new(),
            attributes: vec![KeyValue::new("level", level)],
        };
        event.record(&mut fields);
        span.add_event(fields.message, fields.attributes);
    }
}

/// The fields of one event.
struct Fields {
    message: String,
    attributes: Vec<KeyValue>,
}

impl Visit for Fields {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.attributes.push(KeyValue::new(field.name(), value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.attributes.push(KeyValue::new(field.name(), value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.attributes.push(KeyValue::new(field.name(), value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.attributes
            .push(KeyValue::new(field.name(), value.to_owned()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match i64::try_from(value) {
            Ok(value) => self.record_i64(field, value),
            Err(_) => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.attributes.push(KeyValue::new(field.name(), text));
        }
    }
}
