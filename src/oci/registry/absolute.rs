//! Requests in the clear through a proxy, as proxies expect them: `GET http://host/path`, on a connection to the proxy
//! itself (RFC 9112, 3.2.2). ureq knows CONNECT alone, which proxies grant for TLS only.

use crate::oci::auth::Credentials;
use std::fmt;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, TcpConnector, Transport};
use ureq::{Agent, Error, Proxy};

/// An agent for requests without TLS through `proxy`, one connection a request.
pub fn agent(config: Config, proxy: &Proxy) -> Agent {
    let secret = Credentials {
        username: proxy.username().unwrap_or_default().to_owned(),
        password: proxy.password().unwrap_or_default().to_owned(),
        ..Credentials::default()
    };
    let headers = secret.basic().map(|basic| format!("Proxy-Authorization: {basic}\r\n")).unwrap_or_default();
    let connector = ().chain(TcpConnector::default()).chain(Absolute { headers });
    Agent::with_parts(config, connector, ToProxy { proxy: proxy.uri().clone(), resolver: DefaultResolver::default() })
}

/// Gives the proxy's address, whoever is asked for: names are for the proxy to resolve.
#[derive(Debug)]
struct ToProxy {
    proxy: Uri,
    resolver: DefaultResolver,
}

impl Resolver for ToProxy {
    fn resolve(&self, _: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        self.resolver.resolve(&self.proxy, config, timeout)
    }
}

/// Makes the requests of a connection absolute.
struct Absolute {
    /// What the proxy is told besides.
    headers: String,
}

/// Never shows a secret.
impl fmt::Debug for Absolute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Absolute").finish_non_exhaustive()
    }
}

impl<In: Transport> Connector<In> for Absolute {
    type Out = Told<In>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Told<In>>, Error> {
        let host = details.uri.authority().map_or("", |authority| authority.as_str());
        // Who we are to the registry does not belong into its address.
        let host = host.rsplit('@').next().unwrap_or_default();
        let told = |connection| Told { connection, start: Some((format!("http://{host}"), self.headers.clone())) };
        Ok(chained.map(told))
    }
}

/// A connection to a proxy that carries one request.
struct Told<T> {
    connection: T,
    /// What comes before the path, and the headers after the first line, until they are sent.
    start: Option<(String, String)>,
}

impl<T> fmt::Debug for Told<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Told").finish_non_exhaustive()
    }
}

impl<T: Transport> Transport for Told<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.connection.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let Some((host, headers)) = self.start.take() else {
            return self.connection.transmit_output(amount, timeout);
        };
        let request = self.connection.buffers().output()[..amount].to_vec();
        let request = absolute(&request, &host, &headers).ok_or_else(|| {
            Error::Io(std::io::Error::other("a request whose first line is longer than the buffer for it"))
        })?;
        let mut rest = &request[..];
        while !rest.is_empty() {
            let output = self.connection.buffers().output();
            let n = rest.len().min(output.len());
            output[..n].copy_from_slice(&rest[..n]);
            self.connection.transmit_output(n, timeout)?;
            rest = &rest[n..];
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.connection.await_input(timeout)
    }

    /// Not for a second request.
    fn is_open(&mut self) -> bool {
        false
    }
}

/// `GET /path HTTP/1.1` and so on with `host` before the path and `headers` after the line.
fn absolute(request: &[u8], host: &str, headers: &str) -> Option<Vec<u8>> {
    let path = request.iter().position(|&byte| byte == b' ')? + 1;
    let end = request.windows(2).position(|pair| pair == b"\r\n")? + 2;
    Some([&request[..path], host.as_bytes(), &request[path..end], headers.as_bytes(), &request[end..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_names_the_host() {
        let request = b"GET /v2/?a=b HTTP/1.1\r\nhost: h\r\n\r\n";
        let made = absolute(request, "http://h:80", "Proxy-Authorization: Basic x\r\n").unwrap();
        let expected = "GET http://h:80/v2/?a=b HTTP/1.1\r\nProxy-Authorization: Basic x\r\nhost: h\r\n\r\n";
        assert_eq!(String::from_utf8(made).unwrap(), expected);
        assert!(absolute(b"GET /cut", "", "").is_none());
    }
}
