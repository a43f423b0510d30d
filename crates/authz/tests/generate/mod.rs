//! Policies and RPCs that meet each other often: everything is picked from a few texts that are nearly alike.

use countersign_authz::Caller;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

const PATHS: &[&str] = &[
    "/a.S/M", "/a.S/N", "/a.ST/M", "/b.S/M", "/a.S/M/", "/a.S", "a.S/M", "//a.S/M", "/a.S//M",
    "/a.S/M?q", "/", "", "/a.S/M*", "/a.S/m",
];
const PATH_PATTERNS: &[&str] = &[
    "/a.S/*", "/a.ST/*", "/a.S*", "/a*", "/*", "*", "*/M", "*M", "*/a.S/M", "*S/M", "/a.S/M*",
    "//*", "/a.S/MN*",
];
const URIS: &[&str] = &[
    "spiffe://t/a",
    "spiffe://t/ab",
    "spiffe://t.u/a",
    "https://t/a",
    "CN=x,O=A",
    "t.u",
    "",
    "spiffe://t/*",
];
const DNS_NAMES: &[&str] = &["t.u", "s.t.u", "T.U", "xt.u", "spiffe://t/a", "O=A", ""];
const SUBJECTS: &[&str] = &[
    "CN=x,O=A",
    "CN=xy,O=A",
    "CN=x\\,O=A",
    "CN=x\\\\,O=A",
    "O=A",
    "CN=x",
    "CN=x,OU=u,O=A",
    ",",
    "CN=x,",
    ",O=A",
    "t.u",
    "",
    "CN=x\\\\\\,O=A",
    "CN=é,O=A",
];
const NAME_PATTERNS: &[&str] = &[
    "*",
    "spiffe://t/*",
    "spiffe://t*",
    "spiffe://*",
    "*/a",
    "*.u",
    "*t.u",
    "*O=A",
    "*,O=A",
    "CN=x*",
    "CN=x,*",
    "CN=x\\*",
    "CN=x\\,*",
    "*=A",
    "*A",
    "C*",
    "CN=x,OU=u*",
    "*OU=u,O=A",
    "*\\,O=A",
    ",*",
    "*,",
    "CN=é*",
];
const KEYS: &[&str] = &["k", "K", "other", "k-bin", "authorization"];
const VALUES: &[&str] = &[
    "a", "b", "", ",", "a,b", "ab", "b,a", "YQ==", "YQ=", "YQ", "YQ==,YQ", "a=", "=", "A",
];
const VALUE_PATTERNS: &[&str] = &[
    "*", "a*", "*b", "a,*", "*,b", "*,", ",*", "YQ*", "*YQ==", "*YQ", "YQ=*", "*=", "ab*", "*a,b",
];

/// A source of choices: `pick(n)` gives a number below `n`.
pub(crate) trait Pick {
    fn pick(&mut self, below: usize) -> usize;

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.pick(of.len())]
    }
}

/// A valid policy: with its JSON, since the model reads that.
pub(crate) fn policy(pick: &mut impl Pick) -> Value {
    let mut policy = json!({"name": "p", "allow_rules": rules(pick, 1)});
    if pick.pick(3) > 0 {
        policy["deny_rules"] = rules(pick, 0);
    }
    policy
}

fn rules(pick: &mut impl Pick, least: usize) -> Value {
    (0..least + pick.pick(5))
        .map(|at| rule(pick, &format!("r{at}")))
        .collect()
}

pub(crate) fn rule(pick: &mut impl Pick, name: &str) -> Value {
    let mut rule = json!({ "name": name });
    if pick.pick(4) > 0 {
        rule["source"] =
            json!({"principals": patterns(pick, &[URIS, DNS_NAMES, SUBJECTS], NAME_PATTERNS)});
    }
    if pick.pick(4) > 0 {
        rule["request"] = json!({"paths": patterns(pick, &[PATHS], PATH_PATTERNS)});
        if pick.pick(3) == 0 {
            rule["request"]["headers"] = (0..=pick.pick(2)).map(|_| header(pick)).collect();
        }
    }
    rule
}

fn patterns(pick: &mut impl Pick, exact: &[&[&str]], wild: &[&str]) -> Vec<Value> {
    (0..pick.pick(4))
        .map(|_| pattern(pick, exact, wild).into())
        .collect()
}

fn pattern<'a>(pick: &mut impl Pick, exact: &[&[&'a str]], wild: &[&'a str]) -> &'a str {
    match pick.pick(3) {
        0 => pick.one(wild),
        _ => {
            let of = exact[pick.pick(exact.len())];
            pick.one(of)
        }
    }
}

fn header(pick: &mut impl Pick) -> Value {
    let values: Vec<&str> = (0..=pick.pick(2))
        .map(|_| pattern(pick, &[VALUES], VALUE_PATTERNS))
        .collect();
    json!({"key": pick.one(KEYS), "values": values})
}

pub(crate) fn caller(pick: &mut impl Pick) -> Caller {
    match pick.pick(8) {
        0 => Caller::Plaintext,
        1 => Caller::Anonymous,
        kind => Caller::Authenticated {
            uri_sans: names(pick, URIS, kind < 4),
            dns_sans: names(pick, DNS_NAMES, kind < 6),
            subject: pick.one(SUBJECTS).to_owned(),
        },
    }
}

fn names(pick: &mut impl Pick, of: &[&str], any: bool) -> Vec<String> {
    let count = if any { pick.pick(3) } else { 0 };
    (0..count).map(|_| pick.one(of).to_owned()).collect()
}

pub(crate) fn path(pick: &mut impl Pick) -> &'static str {
    pick.one(PATHS)
}

pub(crate) fn headers(pick: &mut impl Pick) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for _ in 0..pick.pick(4) {
        let key = HeaderName::try_from(pick.one(KEYS).to_lowercase()).unwrap();
        headers.append(key, HeaderValue::from_static(pick.one(VALUES)));
    }
    headers
}
