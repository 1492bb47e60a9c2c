//! The consent page of the development authorisation server.

use std::fmt::Write as _;

/// Writes text where HTML is expected.
pub(crate) fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
        out
    })
}

/// The page that asks for consent. `ticket` names the request that the answer belongs to.
pub(crate) fn consent(client_id: &str, scopes: &[String], ticket: &str) -> String {
    let mut items = String::new();
    for scope in scopes {
        let _ = write!(items, "<li><code>{}</code></li>", escaped(scope));
    }
    if items.is_empty() {
        items.push_str("<li>nothing in particular</li>");
    }
    page(
        "Allow access?",
        &format!(
            "<p><strong>{client}</strong> asks for:</p><ul>{items}</ul>\
             <form method=\"post\" action=\"/decision\">\
             <input type=\"hidden\" name=\"ticket\" value=\"{ticket}\">\
             <button name=\"decision\" value=\"approve\">Approve</button> \
             <button name=\"decision\" value=\"deny\">Deny</button></form>",
            client = escaped(client_id),
            ticket = escaped(ticket),
        ),
    )
}

/// A page that says what is wrong where no redirect is safe.
pub(crate) fn problem(text: &str) -> String {
    page("This request can't be answered", &format!("<p>{}</p>", escaped(text)))
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <style>body{{font:1rem/1.5 system-ui;max-width:34rem;margin:3rem auto;padding:0 1rem}}\
         button{{font:inherit;padding:.4rem 1rem}}</style>\
         <h1>{title}</h1>{body}<p><small>A development server, not a real provider.</small></p></html>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_text() {
        let html = consent("<script>", &["\"a\"&'b'".to_owned()], "t");
        assert!(html.contains("&lt;script&gt;") && !html.contains("<script>"));
        assert!(html.contains("&quot;a&quot;&amp;&#39;b&#39;"));
    }
}
