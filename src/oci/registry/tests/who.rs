//! Who we are: tokens, passwords, logins.

use super::*;

/// A registry that wants a token which this same server gives: `(path, query)` of its token requests are in `seen`.
fn token_server(life: &'static str) -> Server {
    Server::start(move |request, before| {
        if request.path.starts_with("/token") {
            return Say::ok(format!(r#"{{"token":"t{before}"{life}}}"#));
        }
        let realm = format!(
            r#"Bearer realm="http://{}/token",service="the, service",scope="repository:team/app:pull""#,
            request.header("host")
        );
        match request.header("authorization").strip_prefix("Bearer t") {
            Some(_) => Say::ok(MANIFEST),
            None => Say::status(401).with("WWW-Authenticate", "Negotiate").with("WWW-Authenticate", realm),
        }
    })
}

#[test]
fn a_token_is_fetched_once_and_kept() {
    let server = token_server("");
    let client = server.client(None);
    client.manifest("1").unwrap();
    client.manifest("2").unwrap();
    assert_eq!(
        server.paths(),
        [
            "/v2/team/app/manifests/1",
            "/token?service=the%2C%20service&scope=repository%3Ateam%2Fapp%3Apull",
            "/v2/team/app/manifests/1",
            "/v2/team/app/manifests/2",
        ]
    );
    assert_eq!(server.seen()[1].header("authorization"), "", "anonymous");
}

#[test]
fn a_user_gets_a_token_by_password() {
    let server = token_server(r#","expires_in":300"#);
    let credentials = Credentials { username: "me".into(), password: "p".into(), ..Default::default() };
    server.client(Some(credentials)).manifest("1").unwrap();
    let token = &server.seen()[1];
    assert!(token.path.starts_with("/token?account=me&service="), "{}", token.path);
    assert_eq!(token.header("authorization"), "Basic bWU6cA==");
}

#[test]
fn an_identity_token_is_exchanged() {
    let server = token_server("");
    let credentials = Credentials { identity_token: "id+".into(), ..Default::default() };
    server.client(Some(credentials)).manifest("1").unwrap();
    let token = &server.seen()[1];
    assert_eq!((token.method.as_str(), token.path.as_str()), ("POST", "/token"));
    assert_eq!(
        token.body,
        "grant_type=refresh_token&refresh_token=id%2B&client_id=dhow&service=the%2C%20service&scope=repository%3Ateam%2Fapp%3Apull"
    );
}

#[test]
fn a_registry_token_is_sent_as_it_is() {
    let server = Server::start(|request, _| match request.header("authorization") {
        "Bearer mine" => Say::ok(MANIFEST),
        _ => Say::status(401).with("WWW-Authenticate", "Bearer realm=\"http://127.0.0.1:1/\""),
    });
    let credentials = Credentials { registry_token: "mine".into(), ..Default::default() };
    server.client(Some(credentials)).manifest("1").unwrap();
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_token_that_ran_out_is_replaced_once() {
    let server = Server::start(|request, before| {
        if request.path.starts_with("/token") {
            return Say::ok(format!(r#"{{"access_token":"t{before}","expires_in":3600}}"#));
        }
        let realm = format!(r#"Bearer realm="http://{}/token""#, request.header("host"));
        // The first token dies after one use.
        match (request.header("authorization"), before) {
            ("Bearer t1", 2) | ("Bearer t4", _) => Say::ok(MANIFEST),
            _ => Say::status(401).with("WWW-Authenticate", realm),
        }
    });
    let client = server.client(None);
    client.manifest("1").unwrap();
    client.manifest("2").unwrap();
    assert_eq!(server.seen().len(), 6);
}

#[test]
fn what_no_token_opens_stays_closed() {
    let server = Server::start(|request, _| {
        if request.path.starts_with("/token") {
            return Say::ok(r#"{"token":"t"}"#);
        }
        let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
        Say { body: body.into(), ..Say::status(401) }
            .with("WWW-Authenticate", format!(r#"Bearer realm="http://{}/token""#, request.header("host")))
    });
    let error = server.client(None).manifest("1").unwrap_err();
    assert_eq!(error.downcast_ref::<Refused>().unwrap().to_string(), "unauthorized: authentication required");
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn a_wrong_password_is_said_by_the_token_server() {
    let server = Server::start(|request, _| {
        if request.path.starts_with("/token") {
            return Say { body: br#"{"details":"incorrect username or password"}"#.into(), ..Say::status(401) };
        }
        Say::status(401).with("WWW-Authenticate", format!(r#"Bearer realm="http://{}/token""#, request.header("host")))
    });
    let error = server.client(None).manifest("1").unwrap_err();
    assert!(format!("{error:#}").ends_with("incorrect username or password"), "{error:#}");
}

#[test]
fn basic_is_sent_when_asked_for_and_from_then_on() {
    let server = Server::start(|request, _| match request.header("authorization") {
        "Basic dTpw" => Say::ok(MANIFEST),
        _ => Say::status(401).with("WWW-Authenticate", r#"Basic realm="a, b""#),
    });
    let credentials = Credentials { username: "u".into(), password: "p".into(), ..Default::default() };
    let client = server.client(Some(credentials));
    client.manifest("1").unwrap();
    client.manifest("2").unwrap();
    assert_eq!(server.seen().len(), 3);
    let error = server.client(None).manifest("1").unwrap_err();
    assert!(format!("{error:#}").ends_with("no basic auth credentials"), "{error:#}");
    let wrong = Credentials { username: "u".into(), password: "x".into(), ..Default::default() };
    let error = server.client(Some(wrong)).manifest("1").unwrap_err();
    assert_eq!(error.downcast_ref::<Refused>().unwrap().status, 401);
    assert_eq!(server.seen().len(), 6);
}

#[test]
fn a_login_is_tried_on_the_registry_itself() {
    let server = Server::start(|request, _| match (request.path.as_str(), request.header("authorization")) {
        ("/v2/", "Basic dTpw") => Say::ok("{}"),
        ("/v2/", _) => Say::status(401).with("WWW-Authenticate", "Basic realm=x"),
        _ => Say::status(404),
    });
    let pair = |password: &str| Credentials { username: "u".into(), password: password.into(), ..Default::default() };
    for spelt in [server.address.clone(), format!("http://{}/v1/", server.address)] {
        assert_eq!(login(&spelt, pair("p"), &settings()).unwrap(), "");
        let refused = login(&spelt, pair("wrong"), &settings()).unwrap_err();
        assert_eq!(refused.downcast_ref::<Refused>().map(|refused| refused.status), Some(401));
    }
    for hub in ["", "docker.io", "https://index.docker.io/v1/", "registry-1.docker.io"] {
        assert_eq!(host(hub), HUB);
    }
}

#[test]
fn a_login_may_give_an_identity_token() {
    let server = token_server(r#","refresh_token":"lasting""#);
    let pair = Credentials { username: "u".into(), password: "p".into(), ..Default::default() };
    assert_eq!(login(&server.address, pair, &settings()).unwrap(), "lasting");
    let asked = &server.seen()[1].path;
    assert!(asked.contains("account=u&client_id=dhow&offline_token=true"), "{asked}");
}
