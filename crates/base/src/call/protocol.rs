//! Checks that a request is a gRPC call (gRPC over HTTP/2, RFC 9113 §8). No other code repeats this check.
//!
//! A web page can make a browser send requests with the user's client certificate. Those that need no CORS preflight
//! are not POST, or do not have gRPC's content type; they are refused here.

use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use tonic::body::Body;

/// Why a request is not a gRPC call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotACall {
    /// The method is not POST.
    #[error("the HTTP method is not POST")]
    Method,
    /// The content type is missing, repeated, or not gRPC with protobuf.
    #[error("the content type is not application/grpc or application/grpc+proto")]
    ContentType,
    /// The scheme is neither `https` nor `http`.
    #[error("the :scheme is neither https nor http")]
    Scheme,
    /// The authority has userinfo, or `host` differs from it.
    #[error("the :authority has userinfo, or host differs from it")]
    Authority,
    /// A header value begins or ends with white space.
    #[error("the value of a header begins or ends with a blank")]
    Blank,
}

impl NotACall {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Method,
        Self::ContentType,
        Self::Scheme,
        Self::Authority,
        Self::Blank,
    ];

    /// The stable name of the reason.
    pub fn code(self) -> &'static str {
        match self {
            Self::Method => "METHOD_NOT_ALLOWED",
            Self::ContentType => "CONTENT_TYPE_UNSUPPORTED",
            Self::Scheme => "SCHEME_UNSUPPORTED",
            Self::Authority => "AUTHORITY_MALFORMED",
            Self::Blank => "HEADER_MALFORMED",
        }
    }

    /// The HTTP status that the caller gets, without a body: a caller that does not speak gRPC cannot read a gRPC
    /// status.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Scheme | Self::Authority | Self::Blank => StatusCode::BAD_REQUEST,
        }
    }

    /// The response.
    pub fn response(self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status();
        if self == Self::Method {
            let post = HeaderValue::from_static("POST");
            response.headers_mut().insert(header::ALLOW, post);
        }
        response
    }
}

/// Refuses a request that is not a gRPC call, by its method, its content type, or a malformed head.
///
/// The fragment of a path is not visible here: the HTTP library drops it, so nothing routes by it either.
///
/// # Errors
/// [`NotACall`], the first reason in the order of that type.
pub fn is_call<B>(request: &Request<B>) -> Result<(), NotACall> {
    if request.method() != Method::POST {
        return Err(NotACall::Method);
    }
    if !is_grpc(request.headers()) {
        return Err(NotACall::ContentType);
    }
    has_sound_head(request)
}

/// Refuses a malformed head, whatever the method and the content type.
///
/// # Errors
/// [`NotACall`], but for its first two reasons.
pub fn has_sound_head<B>(request: &Request<B>) -> Result<(), NotACall> {
    let (uri, headers) = (request.uri(), request.headers());
    if !matches!(uri.scheme_str(), Some("https" | "http") | None) {
        return Err(NotACall::Scheme);
    }
    if !has_one_authority(uri, headers) {
        return Err(NotACall::Authority);
    }
    if headers.values().any(has_outer_blank) {
        return Err(NotACall::Blank);
    }
    Ok(())
}

/// `application/grpc` or `application/grpc+proto`, in whatever case, alone or before parameters (RFC 9110 §8.3.1).
fn is_grpc(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let media_type = value.as_bytes().split(|&byte| byte == b';').next();
    // Blanks before the parameters are not part of the type (RFC 9110 §5.6.6).
    let media_type = media_type.unwrap_or_default().trim_ascii_end();
    media_type.eq_ignore_ascii_case(b"application/grpc")
        || media_type.eq_ignore_ascii_case(b"application/grpc+proto")
}

/// Whether the authority is only a host and a port, given once (RFC 9113 §8.3.1).
fn has_one_authority(uri: &Uri, headers: &HeaderMap) -> bool {
    let authority = uri.authority().map(|authority| authority.as_str());
    let mut hosts = headers.get_all(HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    let has_user = |name: &[u8]| name.contains(&b'@');
    if more.is_some()
        || authority.is_some_and(|name| has_user(name.as_bytes()))
        || host.is_some_and(|name| has_user(name.as_bytes()))
    {
        return false;
    }
    match (authority, host) {
        (Some(authority), Some(host)) => host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()),
        (Some(_), None) | (None, Some(_)) | (None, None) => true,
    }
}

/// RFC 9113 §8.2.1. A policy rule does not treat `" x"` as `x`, but a handler might.
fn has_outer_blank(value: &HeaderValue) -> bool {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    is_blank(value.as_bytes().first()) || is_blank(value.as_bytes().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::post("https://localhost:443/a.B/C");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn the_content_type_is_grpc_with_protobuf_said_once() {
        for good in [
            "application/grpc",
            "application/grpc+proto",
            "Application/GRPC",
            "application/grpc;x=y",
            "application/grpc ; x=y",
            "application/grpc+proto; charset=utf-8",
            "application/grpc;",
        ] {
            assert_eq!(
                is_call(&request(&[("content-type", good)])),
                Ok(()),
                "{good}"
            );
        }
        for bad in [
            "",
            "text/plain",
            "text/plain; application/grpc",
            "text/plain;application/grpc",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/json",
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grpc-web-text",
            "application/grpc-web-text+proto",
            "application/grpcfoo",
            "application/grpc+json",
            "application/grpc+proto2",
            "application/grpc+",
            "application/grpc,text/plain",
            "application/grpc, application/grpc",
            "application/grpc x",
            "application /grpc",
            "xapplication/grpc",
        ] {
            let refused = is_call(&request(&[("content-type", bad)]));
            assert_eq!(refused, Err(NotACall::ContentType), "{bad}");
        }
        let twice = [("content-type", "application/grpc"); 2];
        assert_eq!(is_call(&request(&twice)), Err(NotACall::ContentType));
        assert_eq!(is_call(&request(&[])), Err(NotACall::ContentType));
    }

    #[test]
    fn the_head_of_a_call_is_well_formed() {
        let grpc = ("content-type", "application/grpc");
        for (name, value, expected) in [
            ("host", "localhost:443", Ok(())),
            ("host", "LOCALHOST:443", Ok(())),
            ("host", "localhost", Err(NotACall::Authority)),
            ("host", "other", Err(NotACall::Authority)),
            ("host", "x@localhost:443", Err(NotACall::Authority)),
            ("x", "a b", Ok(())),
            ("x", "", Ok(())),
            ("x", " a", Err(NotACall::Blank)),
            ("x", "\ta", Err(NotACall::Blank)),
            ("x", "a ", Err(NotACall::Blank)),
            ("x", "a\t", Err(NotACall::Blank)),
            ("x", " ", Err(NotACall::Blank)),
        ] {
            let request = request(&[grpc, (name, value)]);
            assert_eq!(is_call(&request), expected, "{name}: {value:?}");
        }
        for (uri, expected) in [
            ("http://localhost/a.B/C", Ok(())),
            ("/a.B/C", Ok(())),
            ("ftp://localhost/a.B/C", Err(NotACall::Scheme)),
            ("https://x@localhost/a.B/C", Err(NotACall::Authority)),
            ("https://x:y@localhost/a.B/C", Err(NotACall::Authority)),
        ] {
            let request = Request::post(uri).header(grpc.0, grpc.1).body(()).unwrap();
            assert_eq!(is_call(&request), expected, "{uri}");
        }
        for method in ["GET", "PUT", "OPTIONS", "HEAD", "DELETE", "post", "QUERY"] {
            let mut request = request(&[grpc]);
            *request.method_mut() = method.parse().unwrap();
            assert_eq!(is_call(&request), Err(NotACall::Method), "{method}");
        }
    }
}
