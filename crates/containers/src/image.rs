//! Which image a container is made of.

use std::fmt;

use crate::error::Error;

/// RabbitMQ's image, unless another is named: with the management plugin.
pub(crate) const RABBITMQ: &str = "rabbitmq:4-management";

/// PostgreSQL's image, unless another is named.
const POSTGRES: &str = "postgres:18";

/// The name of an image with its tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub(crate) name: String,
    pub(crate) tag: String,
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.tag)
    }
}

impl Image {
    /// RabbitMQ with its management plugin: WORKBOOK_RABBITMQ_IMAGE, or `rabbitmq:4-management`.
    ///
    /// # Errors
    /// If the variable holds no image's name.
    pub fn rabbitmq() -> Result<Self, Error> {
        Self::from_env("WORKBOOK_RABBITMQ_IMAGE", RABBITMQ)
    }

    /// PostgreSQL: WORKBOOK_POSTGRES_IMAGE, or `postgres:18`.
    ///
    /// # Errors
    /// If the variable holds no image's name.
    pub fn postgres() -> Result<Self, Error> {
        Self::from_env("WORKBOOK_POSTGRES_IMAGE", POSTGRES)
    }

    fn from_env(variable: &'static str, otherwise: &str) -> Result<Self, Error> {
        let text = match std::env::var_os(variable) {
            Some(text) if !text.is_empty() => text,
            _ => otherwise.into(),
        };
        text.to_str().and_then(Self::parse).ok_or(Error::Variable {
            name: variable,
            must_be: "the name of an image, such as name:tag",
        })
    }

    /// What Docker's API is to be asked for: the name, and the tag or digest. Of
    /// `name@sha256:0f…`, which is taken apart at its last colon, the algorithm is part of
    /// the digest.
    pub(crate) fn to_pull(&self) -> (&str, String) {
        match self.name.split_once('@') {
            Some((name, algorithm)) => (name, format!("{algorithm}:{}", self.tag)),
            None => (&self.name, self.tag.clone()),
        }
    }

    /// A colon that is followed by a slash is that of a registry's port.
    fn parse(text: &str) -> Option<Self> {
        let (name, tag) = match text.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, tag),
            _ => (text, "latest"),
        };
        let usable = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic());
        (usable(name) && usable(tag)).then(|| Self {
            name: name.to_owned(),
            tag: tag.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_as_docker_takes_them() {
        for (text, expected) in [
            ("rabbitmq", Some(("rabbitmq", "latest"))),
            ("rabbitmq:4-management", Some(("rabbitmq", "4-management"))),
            ("host:5000/rabbitmq", Some(("host:5000/rabbitmq", "latest"))),
            ("host:5000/rabbitmq:4", Some(("host:5000/rabbitmq", "4"))),
            ("rabbitmq@sha256:00ff", Some(("rabbitmq@sha256", "00ff"))),
            ("rabbitmq:", None),
            (":4", None),
            ("two words", None),
            ("", None),
        ] {
            let image = Image::parse(text);
            let got = image.as_ref().map(|image| (&*image.name, &*image.tag));
            assert_eq!(got, expected, "{text}");
        }
    }

    #[test]
    fn what_is_pulled_has_a_tag_or_a_digest() {
        for (text, expected) in [
            ("rabbitmq", ("rabbitmq", "latest")),
            ("host:5000/rabbitmq:4", ("host:5000/rabbitmq", "4")),
            ("rabbitmq@sha256:00ff", ("rabbitmq", "sha256:00ff")),
        ] {
            let image = Image::parse(text).expect("a name");
            let (name, tag) = image.to_pull();
            assert_eq!((name, &*tag), expected, "{text}");
            assert!(text.starts_with(&image.name), "{text}");
        }
    }
}
