//! The page for browsers: it shows the identity in the reader's certificate, and what the policy lets that caller call.
//! Off unless a setting says otherwise.
//!
//! It is authorized under its path, as an RPC is, and ends with a gRPC status, so that the log, the metrics and the
//! audit log know it as they know a call. It never calls the service, sets no cookie, has no script and no form, and
//! uses nothing of the request except to recognize it.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use authz::{Api, Gate};
use base::call;
use base::text::{timestamp, visible};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use identity::Peer;
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::error;

/// The path of the page, which is also its name in a policy.
pub(crate) const PATH: &str = "/countersign.Page/Show";

/// What a browser may do with the page: show it, to its reader alone. `sandbox` makes it an origin of its own, so that
/// even a script that got into it could not call the service.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_TYPE, "text/html; charset=utf-8"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// The page of a service.
#[derive(Debug)]
pub(crate) struct Page {
    service: &'static str,
}

/// A request for the page, and its sender.
pub(crate) struct View {
    service: &'static str,
    peer: Arc<Peer>,
}

impl Page {
    pub(crate) fn new(service: &'static str) -> Self {
        Self { service }
    }

    /// The request of a browser that is to show the page: a GET of exactly its path, and not for a part of another page
    /// (Fetch Metadata).
    pub(crate) fn asked_for<B>(&self, request: &Request<B>) -> Option<View> {
        let uri = request.uri();
        let for_document = request
            .headers()
            .get("sec-fetch-dest")
            .is_none_or(|dest| dest == "document");
        let is_asked = request.method() == Method::GET
            && uri.path() == PATH
            && uri.query().is_none()
            && for_document
            && call::has_sound_head(request).is_ok();
        let peer = request.extensions().get::<Arc<Peer>>();
        peer.filter(|_| is_asked).map(|peer| View {
            service: self.service,
            peer: peer.clone(),
        })
    }
}

impl View {
    /// The page, by the policy in force.
    pub(crate) fn show(&self, gate: &Gate, api: &Api) -> Response<Body> {
        let rights: Vec<_> = api
            .paths()
            .map(|path| (path, gate.would_allow(path)))
            .collect();
        let text = text(
            self.service,
            &self.peer,
            &rights,
            gate.reads_headers(),
            SystemTime::now(),
        );
        html(StatusCode::OK, Code::Ok, text)
    }
}

/// The page that says why the page is not shown.
pub(crate) fn refused(status: &Status) -> Response<Body> {
    let http = if status.code() == Code::PermissionDenied {
        StatusCode::FORBIDDEN
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let reason = Escaped(status.message()).to_string();
    let text = document("Refused", &format!("<h1>Refused</h1>\n<p>{reason}</p>\n"));
    html(http, status.code(), text)
}

fn html(http: StatusCode, code: Code, text: String) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(i32::from(code)));
    let trailers = std::future::ready(Some(Ok::<_, Infallible>(trailers)));
    let body = Full::from(text).with_trailers(trailers);
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = http;
    for (name, value) in HEADERS {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

fn text(
    service: &str,
    peer: &Peer,
    rights: &[(&str, bool)],
    reads_headers: bool,
    now: SystemTime,
) -> String {
    let mut body = format!("<h1>{}</h1>\n", Escaped(service));
    // Writing to a String cannot fail; what is written is there or the page is not whole, which is logged.
    if write(&mut body, peer, rights, reads_headers, now).is_err() {
        error!("the page for browsers cannot be written");
    }
    document(service, &body)
}

fn write(
    body: &mut String,
    peer: &Peer,
    rights: &[(&str, bool)],
    reads_headers: bool,
    now: SystemTime,
) -> std::fmt::Result {
    let identity = peer.to_string();
    writeln!(
        body,
        "<p>By your certificate you are <strong>{}</strong>.</p>\n<h2>Your certificate</h2>\n<table border=1 cellpadding=6>",
        Escaped(&identity)
    )?;
    let mut row = |name: &str, value: &str| match value {
        "" => Ok(()),
        value => writeln!(
            body,
            "<tr><th align=left>{name}</th><td>{}</td></tr>",
            Escaped(value)
        ),
    };
    for uri in peer.uri_sans() {
        row("URI", uri)?;
    }
    for dns in peer.dns_sans() {
        row("DNS name", dns)?;
    }
    for ip in peer.ip_sans() {
        row("IP address", &ip.to_string())?;
    }
    for email in peer.email_sans() {
        row("e-mail", email)?;
    }
    row("subject", peer.subject())?;
    row("issuer", peer.issuer())?;
    row("root", peer.root_subject())?;
    row("serial", peer.serial())?;
    let fingerprint: String = peer
        .fingerprint()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    row("SHA-256", &fingerprint)?;
    row("valid until", &timestamp(peer.not_after()))?;
    let left = peer.not_after().duration_since(now).unwrap_or_default();
    row(
        "days left",
        &format!("{:.2}", left.as_secs_f64() / 86_400.0),
    )?;
    writeln!(
        body,
        "</table>\n<h2>What the policy lets you call</h2>\n<table border=1 cellpadding=6>"
    )?;
    for (path, allowed) in rights {
        let verdict = if *allowed { "allow" } else { "deny" };
        writeln!(
            body,
            "<tr><td>{}</td><td>{verdict}</td></tr>",
            Escaped(path)
        )?;
    }
    writeln!(body, "</table>")?;
    if reads_headers {
        let note = "Some rules read headers; this is about calls without any.";
        writeln!(body, "<p>{note}</p>")?;
    }
    Ok(())
}

fn document(title: &str, body: &str) -> String {
    // Without an icon here, a browser asks for one.
    format!(
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n<meta name=color-scheme content=\"light dark\">\n\
         <link rel=icon href=\"data:,\">\n<title>{}</title>\n</head>\n<body>\n{body}</body>\n</html>\n",
        Escaped(title)
    )
}

/// Text for HTML, between tags or quotes, with markup and non-printable characters escaped.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in visible(self.0).chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn asked(request: http::request::Builder) -> bool {
        let mut request = request.body(()).unwrap();
        let peer = Peer::unverified_for_tests().uri("spiffe://acme.test/orders");
        request
            .extensions_mut()
            .insert(Arc::new(peer.build().unwrap()));
        Page::new("echo").asked_for(&request).is_some()
    }

    #[test]
    fn nothing_but_a_browser_that_goes_to_the_page_gets_it() {
        let url = "https://localhost:50051/countersign.Page/Show";
        let get = || Request::get(url);
        assert!(asked(get()));
        assert!(asked(
            get()
                .header("sec-fetch-dest", "document")
                .header("host", "localhost:50051")
        ));
        for dest in ["image", "script", "empty", "iframe", "frame", ""] {
            assert!(!asked(get().header("sec-fetch-dest", dest)), "{dest}");
        }
        for method in ["POST", "HEAD", "PUT", "OPTIONS", "get"] {
            assert!(
                !asked(Request::builder().method(method).uri(url)),
                "{method}"
            );
        }
        for other in ["/", "/?x", "s", "/Show"] {
            assert!(!asked(Request::get(format!("{url}{other}"))), "{other}");
        }
        assert!(!asked(Request::get(format!("{url}?x"))));
        assert!(!asked(Request::get("https://localhost:50051/")));
        assert!(!asked(get().header("host", "other")));
        assert!(!asked(get().header("x", " y")));
        let without_a_peer = get().body(()).unwrap();
        assert!(Page::new("echo").asked_for(&without_a_peer).is_none());
    }

    #[test]
    fn what_a_certificate_says_is_text_and_no_markup() {
        let peer = Peer::unverified_for_tests()
            .uri("https://acme.test/<script>alert(1)</script>")
            .subject("CN=\"x\" onclick='y'&amp;")
            .build()
            .unwrap();
        let rights = [("/a.B/C", true), ("/a.B/D", false)];
        let page = text("echo", &peer, &rights, false, SystemTime::now());
        assert!(
            page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"),
            "{page}"
        );
        assert!(
            page.contains("&quot;x&quot; onclick=&#39;y&#39;&amp;amp;"),
            "{page}"
        );
        assert!(!page.contains("<script"), "{page}");
        assert!(
            page.contains("<tr><td>/a.B/C</td><td>allow</td></tr>"),
            "{page}"
        );
        assert!(
            page.contains("<tr><td>/a.B/D</td><td>deny</td></tr>"),
            "{page}"
        );
        let late = peer.not_after() + Duration::from_secs(1);
        let page = text("echo", &peer, &rights, true, late);
        assert!(page.contains("<td>0.00</td>"), "{page}");
        assert!(page.contains("Some rules read headers"), "{page}");
    }
}
