//! Sessions of browsers: a token is traded for a cookie that is good on every node, changes nothing by itself, and can be
//! taken away everywhere at once.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use meshkit_api_server::Config;
use serde_json::{Value, json};

use crate::{
    watches::Events,
    world::{ADMIN, Answer, OBSERVE, OPERATE, READ, World},
};

/// A browser that has signed in.
struct Browser {
    cookie: String,
    csrf: String,
    id: String,
}

impl Browser {
    async fn sign_in(world: &World, node: u64, scope: &str) -> Self {
        let answer = world.at(node, scope, "POST", "/meshkit/session", Some(json!({}))).await;
        let session = answer.expect(200);
        let set = answer.header("set-cookie").to_owned();
        let attributes: Vec<&str> = set.split("; ").collect();
        for wanted in ["Path=/", "Secure", "HttpOnly", "SameSite=Strict"] {
            assert!(attributes.contains(&wanted), "{set}");
        }
        assert!(attributes[0].starts_with("__Host-"), "{set}");
        assert!(!set.contains("Domain"), "{set}");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(session["principal"], "alice");
        Self {
            cookie: attributes[0].to_owned(),
            csrf: session["csrfToken"].as_str().unwrap().to_owned(),
            id: session["id"].as_str().unwrap().to_owned(),
        }
    }

    fn request(&self, verb: &str, path: &str, body: Option<Value>, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
        let mut request = Request::builder()
            .method(verb)
            .uri(path)
            .header("host", "api")
            .header("cookie", &self.cookie);
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        request.body(Full::new(Bytes::from(body))).unwrap()
    }

    async fn get(&self, world: &World, node: u64, path: &str) -> Answer {
        world.h1(node, None, self.request("GET", path, None, &[])).await
    }

    async fn send(&self, world: &World, node: u64, verb: &str, path: &str, body: Option<Value>) -> Answer {
        let headers = [
            ("mesh-csrf-token", self.csrf.as_str()),
            ("sec-fetch-site", "same-origin"),
        ];
        world.h1(node, None, self.request(verb, path, body, &headers)).await
    }
}

fn peer(id: &str) -> Option<Value> {
    Some(json!({ "id": id, "endpoints": ["h:1"] }))
}

#[tokio::test]
async fn a_cookie_is_good_on_every_node_and_its_page_alone_changes_things() {
    let world = World::three().await;
    let (leader, follower) = (world.leader_number(), world.follower_number());
    let browser = Browser::sign_in(&world, follower, OPERATE).await;
    for node in 1..=3 {
        // Right away, also on nodes that have not applied it yet.
        let session = browser.get(&world, node, "/meshkit/session").await;
        assert_eq!(session.header("cache-control"), "no-store");
        let session = session.expect(200);
        assert_eq!(session["csrfToken"], browser.csrf.as_str());
        assert_eq!(session["scopes"], json!(["mesh.read", "mesh.observe", "mesh.operate"]));
        let can = browser.get(&world, node, "/meshkit/auth/can-i?what=peers.drain").await;
        assert_eq!(can.expect(200)["method"], "session");
    }
    // A mutation needs what the page knows, and comes from no other page; a follower carries it on.
    let path = "/meshkit/peers";
    for (headers, named) in [
        (vec![], "Mesh-Csrf-Token"),
        (vec![("mesh-csrf-token", "abc")], "Mesh-Csrf-Token"),
        (
            vec![("mesh-csrf-token", &*browser.csrf), ("sec-fetch-site", "same-site")],
            "Sec-Fetch-Site",
        ),
        (
            vec![("mesh-csrf-token", &*browser.csrf), ("origin", "https://evil")],
            "Origin",
        ),
    ] {
        let request = browser.request("POST", path, peer("p1"), &headers);
        let refused = world.h1(leader, None, request).await.refused(400, "invalid_argument");
        assert_eq!(refused["field"], named, "{refused}");
    }
    let registered = browser.send(&world, follower, "POST", path, peer("p1")).await;
    assert_eq!(registered.expect(200)["id"], "p1");
    browser.send(&world, leader, "POST", path, peer("p2")).await.expect(200);
    // What changes nothing of the mesh is guarded all the same, and so is what another site opens.
    let cross = browser.request("GET", "/meshkit/peers", None, &[("sec-fetch-site", "cross-site")]);
    world.h1(leader, None, cross).await.refused(400, "invalid_argument");
    let bare = browser.request("DELETE", "/meshkit/session", None, &[]);
    world.h1(leader, None, bare).await.refused(400, "invalid_argument");
    let more = browser.send(&world, leader, "DELETE", "/meshkit/peers/p1", None).await;
    more.refused(403, "scope_missing");
    // The trail names the subject and the session, and holds nothing that could be used.
    let trail = world
        .at(leader, OBSERVE, "GET", "/meshkit/audit?includeCanonical=true", None)
        .await;
    let items = trail.expect(200)["items"].clone();
    let by_action = |action: &str| {
        let mut items = items.as_array().unwrap().iter();
        items.find(|item| item["action"] == action).cloned().unwrap()
    };
    let begun = by_action("sessions.begin");
    assert_eq!(
        (&begun["actor"], &begun["target"]),
        (&json!("alice"), &json!(format!("session/{}", browser.id)))
    );
    assert_eq!(by_action("peers.register")["actor"], "alice");
    let secret = browser.cookie.split('=').nth(1).unwrap();
    let text = String::from_utf8(trail.body.to_vec()).unwrap();
    assert!(!text.contains(secret) && !text.contains(&browser.csrf));
}

#[tokio::test]
async fn an_ended_session_is_ended_on_every_node_with_its_watches() {
    let world = World::three().await;
    let (leader, follower) = (world.leader_number(), world.follower_number());
    let browser = Browser::sign_in(&world, leader, OBSERVE).await;
    let other = Browser::sign_in(&world, leader, OBSERVE).await;
    let open = async |browser: &Browser| {
        let request = browser.request("GET", "/meshkit/peers:watch?progressInterval=0.1s", None, &[]);
        let mut events = Events::open(&world, follower, false, request).await;
        assert_eq!(events.response.status(), 200);
        assert_eq!(events.next().await.unwrap().name, "begun");
        events
    };
    let (mut mine, mut others) = (open(&browser).await, open(&other).await);
    let ended = browser.send(&world, leader, "DELETE", "/meshkit/session", None).await;
    assert!(ended.header("set-cookie").contains("Max-Age=0"), "{ended:?}");
    assert_eq!(ended.expect(200)["ended"], 1);
    for node in 1..=3 {
        world.nodes[usize::try_from(node).unwrap() - 1]
            .handle
            .read(
                raft::Consistency::Linearizable,
                tokio::time::Instant::now() + std::time::Duration::from_secs(20),
            )
            .await
            .unwrap();
        browser
            .get(&world, node, "/meshkit/peers")
            .await
            .refused(401, "unauthenticated");
        other.get(&world, node, "/meshkit/peers").await.expect(200);
    }
    let last = loop {
        let event = mine.next().await.expect("it says why it ends");
        if event.name != "progress" {
            break event;
        }
    };
    assert_eq!(
        (last.name.as_str(), &last.data["code"]),
        ("error", &json!("credential_expired"))
    );
    assert_eq!(others.next().await.unwrap().name, "progress");
    // All sessions of a principal: of others only as admin, of oneself always.
    let revoke = |body: Value| Some(body);
    let of_alice = revoke(json!({ "principal": "alice", "reason": "laptop lost" }));
    let ci = Some("spiffe://m1/client/ci");
    let mut request = browser.request("POST", "/meshkit/sessions:revoke", of_alice.clone(), &[]);
    request.headers_mut().remove("cookie");
    let refused = world.h1(leader, ci, request).await.refused(403, "scope_missing");
    assert_eq!(refused["missingScope"], "mesh.admin");
    let revoked = world
        .at(follower, READ, "POST", "/meshkit/sessions:revoke", of_alice)
        .await;
    assert_eq!(revoked.expect(200)["ended"], 1);
    other
        .get(&world, follower, "/meshkit/peers")
        .await
        .refused(401, "unauthenticated");
    let nobody = revoke(json!({ "principal": "bob" }));
    let none = world
        .at(leader, ADMIN, "POST", "/meshkit/sessions:revoke", nobody)
        .await;
    assert_eq!(none.expect(200)["ended"], 0);
}

#[tokio::test]
async fn a_session_lasts_no_longer_than_it_may() {
    let config = Config {
        session_max_s: 600,
        ..Config::default()
    };
    let world = World::new(1, config).await;
    let begin = async |body: Value| {
        let answer = world.call(READ, "POST", "/meshkit/session", Some(body)).await;
        let seconds = answer
            .header("set-cookie")
            .rsplit_once("Max-Age=")
            .map(|(_, age)| age.to_owned());
        (answer, seconds)
    };
    assert_eq!(begin(json!({})).await.1.unwrap(), "600");
    assert_eq!(begin(json!({ "lifetime": "60s" })).await.1.unwrap(), "60");
    assert_eq!(begin(json!({ "lifetime": "86400s" })).await.1.unwrap(), "600");
    begin(json!({ "lifetime": "0s" }))
        .await
        .0
        .refused(400, "invalid_argument");
    begin(json!({ "lifetime": "-5s" }))
        .await
        .0
        .refused(400, "invalid_argument");
    // Not longer than the token, and never by way of anything but a token.
    let exp = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        + 30;
    let token = world.sign(&json!({ "iss": "tests", "aud": "m1", "sub": "bob", "exp": exp, "scope": "mesh.read" }));
    let mut request = world.request(READ, "POST", "/meshkit/session", Some(json!({})), &[]);
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.headers_mut().insert("authorization", bearer);
    let short = world.h1(1, None, request).await;
    let age: u64 = short
        .header("set-cookie")
        .rsplit_once("Max-Age=")
        .unwrap()
        .1
        .parse()
        .unwrap();
    assert!(age <= 30, "{age}");
    let mut request = world.request(READ, "POST", "/meshkit/session", Some(json!({})), &[]);
    request.headers_mut().remove("authorization");
    let certificate = world.h1(1, Some("spiffe://m1/client/ci"), request).await;
    certificate.refused(400, "invalid_argument");
    let browser = Browser::sign_in(&world, 1, READ).await;
    let again = browser
        .send(&world, 1, "POST", "/meshkit/session", Some(json!({})))
        .await;
    again.refused(400, "invalid_argument");
    // An altered cookie is nobody's, whatever else came with the request but a token.
    for cookie in [
        "__Host-meshkit-session=",
        "__Host-meshkit-session=AAAA",
        &format!("{}A", browser.cookie),
    ] {
        let forged = Browser {
            cookie: cookie.to_owned(),
            csrf: String::new(),
            id: String::new(),
        };
        forged
            .get(&world, 1, "/meshkit/peers")
            .await
            .refused(401, "unauthenticated");
    }
    let made_up = Browser {
        cookie: format!("__Host-meshkit-session={}", "A".repeat(43)),
        csrf: String::new(),
        id: String::new(),
    };
    made_up
        .get(&world, 1, "/meshkit/peers")
        .await
        .refused(401, "unauthenticated");
    // A request without one has none to show or to end.
    world
        .call(READ, "GET", "/meshkit/session", None)
        .await
        .refused(400, "invalid_argument");
    world
        .call(READ, "DELETE", "/meshkit/session", None)
        .await
        .refused(400, "invalid_argument");
    // The seventeenth ends the oldest: a browser that signs in over and over fills nothing up.
    let oldest = Browser::sign_in(&world, 1, READ).await;
    for _ in 0..16 {
        Browser::sign_in(&world, 1, READ).await;
    }
    oldest
        .get(&world, 1, "/meshkit/session")
        .await
        .refused(401, "unauthenticated");
}

/// Nobody gets a browser to use a session that they know, nor one's rights mixed with another's.
#[tokio::test]
async fn a_session_is_never_given_adopted_or_mixed() {
    let world = World::one().await;
    let (admin, reader) = (
        Browser::sign_in(&world, 1, ADMIN).await,
        Browser::sign_in(&world, 1, READ).await,
    );
    // Fixation: a cookie that came along is not what the new session goes by, whether there is such a session or not.
    for planted in [
        reader.cookie.clone(),
        format!("{}={}", "__Host-meshkit-session", "A".repeat(43)),
    ] {
        let mut request = world.request(OPERATE, "POST", "/meshkit/session", Some(json!({})), &[]);
        request.headers_mut().insert("cookie", planted.parse().unwrap());
        let begun = world.h1(1, None, request).await;
        begun.expect(200);
        let given = begun.header("set-cookie").split("; ").next().unwrap().to_owned();
        assert_ne!(given, planted);
    }
    let known = reader.get(&world, 1, "/meshkit/session").await.expect(200);
    assert_eq!(known["scopes"], json!(["mesh.read"]), "the planted one is what it was");
    // What one page knows is of no use beside another's cookie.
    let request = admin.request(
        "POST",
        "/meshkit/peers",
        peer("p1"),
        &[("mesh-csrf-token", &reader.csrf)],
    );
    let refused = world.h1(1, None, request).await.refused(400, "invalid_argument");
    assert_eq!(refused["field"], "Mesh-Csrf-Token");
    // Two cookies are nobody's.
    let both = format!("{}; {}", reader.cookie, admin.cookie);
    let mut request = reader.request("GET", "/meshkit/peers", None, &[]);
    request.headers_mut().insert("cookie", both.parse().unwrap());
    world.h1(1, None, request).await.refused(401, "unauthenticated");
    // Whoever shows a token acts by the token alone, with less or with more.
    for (scope, status) in [(READ, 403), (OPERATE, 200)] {
        let mut request = world.request(scope, "POST", "/meshkit/peers", peer("p2"), &[]);
        request.headers_mut().insert("cookie", admin.cookie.parse().unwrap());
        assert_eq!(world.h1(1, None, request).await.status, status, "{scope}");
    }
    // What a form of another site can send is no request: neither its media types nor a method in a header.
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ] {
        let csrf = [("mesh-csrf-token", &*admin.csrf)];
        let mut request = admin.request("POST", "/meshkit/peers", peer("p3"), &csrf);
        request.headers_mut().insert("content-type", kind.parse().unwrap());
        world.h1(1, None, request).await.refused(415, "unsupported_media_type");
    }
    let disguised = [("mesh-csrf-token", &*admin.csrf), ("x-http-method-override", "DELETE")];
    let request = admin.request("GET", "/meshkit/peers/p2", None, &disguised);
    assert_eq!(world.h1(1, None, request).await.expect(200)["id"], "p2");
    let view = world.leader().handle.view();
    assert_eq!(view.state().mesh.peer_count(), 1);
}
