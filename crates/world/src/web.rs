//! One document over HTTPS: the keys of an identity provider.

use std::time::Duration;

/// The body of the answer to GET, `bytes_max` long at most. Certificates are checked as the machine checks them. Redirections are
/// not followed: they would lead to where nobody has looked.
pub async fn get(url: &str, bytes_max: usize, patience: Duration) -> Result<Vec<u8>, String> {
    let client = reqwest::Client::builder()
        .timeout(patience)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| whole(&error))?;
    let mut answer = client.get(url).send().await.map_err(|error| whole(&error))?;
    if !answer.status().is_success() {
        return Err(format!("{url} answers {}", answer.status()));
    }
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|error| whole(&error))? {
        if body.len() + piece.len() > bytes_max {
            return Err(format!("{url} answers more than {bytes_max} bytes"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// With the cause, which alone says what is wrong.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
