//! RabbitMQ's management API: virtual hosts.
//!
//! A virtual host by this API takes some 10 ms; `rabbitmqctl` takes over a second.

use std::{net::SocketAddr, time::Duration};

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;

use crate::error::{Error, cause};

/// How long one request may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// The API of one RabbitMQ.
#[derive(Clone, Debug)]
pub(crate) struct Management {
    client: Client,
    address: SocketAddr,
    user: &'static str,
    password: &'static str,
}

impl Management {
    pub(crate) fn new(
        address: SocketAddr,
        user: &'static str,
        password: &'static str,
    ) -> Result<Self, Error> {
        let client = Client::builder()
            .no_proxy()
            // It is asked over HTTP, and reading the system's certificates takes time.
            .tls_certs_only([])
            .timeout(DEADLINE)
            .build()
            .map_err(|error| Error::Management(cause(&error)))?;
        Ok(Self {
            client,
            address,
            user,
            password,
        })
    }

    /// The names of all virtual hosts.
    pub(crate) async fn vhosts(&self) -> Result<Vec<String>, Error> {
        let body = self
            .send(self.request(Method::GET, "vhosts?columns=name"), &[])
            .await?;
        names(&body).ok_or_else(|| Error::Management("it lists no virtual hosts".to_owned()))
    }

    /// Makes a virtual host, in which `user` may do everything.
    pub(crate) async fn create_vhost(&self, name: &str, user: &str) -> Result<(), Error> {
        let vhost = self.request(Method::PUT, &format!("vhosts/{name}"));
        self.send(vhost, &[]).await?;
        let permissions = self
            .request(Method::PUT, &format!("permissions/{name}/{user}"))
            .body(r#"{"configure":".*","write":".*","read":".*"}"#);
        self.send(permissions, &[]).await.map(drop)
    }

    /// Deletes a virtual host. It may be gone already.
    pub(crate) async fn delete_vhost(&self, name: &str) -> Result<(), Error> {
        let vhost = self.request(Method::DELETE, &format!("vhosts/{name}"));
        self.send(vhost, &[StatusCode::NOT_FOUND]).await.map(drop)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("http://{}/api/{path}", self.address);
        self.client
            .request(method, url)
            .basic_auth(self.user, Some(self.password))
            .header("content-type", "application/json")
    }

    /// The body of a success. `also` are refusals that count as such.
    async fn send(&self, request: RequestBuilder, also: &[StatusCode]) -> Result<Vec<u8>, Error> {
        let failed = |error: reqwest::Error| Error::Management(cause(&error));
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let body = response.bytes().await.map_err(failed)?;
        if status.is_success() || also.contains(&status) {
            return Ok(body.to_vec());
        }
        Err(Error::Management(format!("it answered {status}")))
    }
}

/// The names in a list of virtual hosts. Of one that is deleted while RabbitMQ makes the
/// list, nothing is left to tell but its place.
fn names(body: &[u8]) -> Option<Vec<String>> {
    let all: Vec<Value> = serde_json::from_slice(body).ok()?;
    let named = |vhost: &Value| Some(vhost.get("name")?.as_str()?.to_owned());
    Some(all.iter().filter_map(named).collect())
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_virtual_host_that_is_going_has_no_name() {
        let body = br#"[{"name":"/"},[],{"name":"lab-1"}]"#;
        assert_eq!(names(body).unwrap(), ["/", "lab-1"]);
        assert_eq!(names(b"[]").unwrap(), [] as [&str; 0]);
    }

    #[test]
    fn an_error_is_no_list() {
        assert_eq!(names(br#"{"error":"not_authorised"}"#), None);
        assert_eq!(names(b""), None);
    }
}
