use core::net::IpAddr;

/// Returns the host and the port of `host`, `host:port`, `[v6]:port` or a bare IPv6 address; `None` for what has no host.
pub fn parse_address(text: &str) -> Option<(String, Option<u16>)> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some((ip.to_canonical().to_string(), None));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (text, None),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (!bare.is_empty() && !bare.contains('/')).then(|| (normal_host(bare), port))
}

/// Returns whether a text is an IP address, with a port or without; a name that has to be looked up is none.
pub fn says_ip(text: &str) -> bool {
    parse_address(text).is_some_and(|(host, _)| host.parse::<IpAddr>().is_ok())
}

/// Returns a host as it is compared: an address in its canonical form, a name in lower case.
pub fn normal_host(host: &str) -> String {
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().to_string(),
        Err(_) => host.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_address;

    #[test]
    fn an_address_has_one_form() {
        for (text, expected) in [
            ("10.0.0.1", Some(("10.0.0.1", None))),
            ("10.0.0.1:80", Some(("10.0.0.1", Some(80)))),
            ("::ffff:10.0.0.1", Some(("10.0.0.1", None))),
            ("2001:DB8::1", Some(("2001:db8::1", None))),
            ("[2001:DB8::1]:80", Some(("2001:db8::1", Some(80)))),
            ("Web:80", Some(("web", Some(80)))),
            ("web:99999", None),
            (":80", None),
            ("", None),
        ] {
            let expected =
                expected.map(|(host, port): (&str, Option<u16>)| (host.to_owned(), port));
            assert_eq!(parse_address(text), expected, "{text}");
        }
    }
}
