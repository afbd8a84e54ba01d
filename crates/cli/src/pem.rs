//! Certificates and keys as Kafka's properties name them: a file, or the text itself.

/// Longest file of certificates.
const PEM_BYTES_MAX: u64 = 4 << 20;

/// The PEM file that the property `key` names. `store_type` is what the property beside it says.
pub fn read_pem(key: &str, file: &str, store_type: Option<&str>) -> Result<Vec<u8>, String> {
    let wrong = |why: String| format!("{key}={file}: {why}");
    let length = std::fs::metadata(file).map_err(|error| wrong(error.to_string()))?.len();
    if length > PEM_BYTES_MAX {
        return Err(wrong(format!("longer than {PEM_BYTES_MAX} bytes")));
    }
    let bytes = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    if bytes.windows(10).any(|window| window == b"-----BEGIN") {
        return Ok(bytes);
    }
    let store_type = store_type.unwrap_or("JKS");
    Err(wrong(format!(
        "this is no PEM file, and stores of type {store_type} are not read. To convert: \
         keytool -importkeystore -srckeystore {file} -destkeystore store.p12 -deststoretype PKCS12 && \
         openssl pkcs12 -in store.p12 -nodes -out store.pem"
    )))
}

/// PEM text in a property has often lost its line ends.
pub fn unfold(text: &str) -> Vec<u8> {
    let parts = regex::Regex::new(r"-----BEGIN ([A-Z0-9 ]+)-----([^-]*)-----END [A-Z0-9 ]+-----")
        .expect("a good pattern");
    let mut pem = String::new();
    for part in parts.captures_iter(text) {
        let body: String = part[2].replace("\\n", "").chars().filter(|c| !c.is_whitespace()).collect();
        pem.push_str(&format!("-----BEGIN {}-----\n", &part[1]));
        for line in body.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem.push_str(&format!("-----END {}-----\n", &part[1]));
    }
    pem.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_without_line_ends_is_put_right() {
        let text = "-----BEGIN CERTIFICATE----- QUJD REVG -----END CERTIFICATE----- \\n-----BEGIN PRIVATE KEY-----\\nQQ==\\n-----END PRIVATE KEY-----";
        let expected = "-----BEGIN CERTIFICATE-----\nQUJDREVG\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\nQQ==\n-----END PRIVATE KEY-----\n";
        assert_eq!(String::from_utf8(unfold(text)).unwrap(), expected);
    }
}
