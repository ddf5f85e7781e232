//! Sizes as Kubernetes writes them: `512Mi`, `8Gi`, `1G`, or plain bytes.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes, written as a Kubernetes quantity.
///
/// Keeps the text it was written with; [`Quantity::bytes`] gives its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantity(String);

impl Quantity {
    /// A quantity as the user wrote it; not checked here, the schema's CEL rule did.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A size for people: rounded to the binary unit that leaves two to four digits.
    pub fn human(bytes: u64) -> Self {
        const UNITS: [&str; 6] = ["", "Ki", "Mi", "Gi", "Ti", "Pi"];
        let mut unit = 0;
        let mut scaled = bytes;
        while scaled >= 10_000 && unit + 1 < UNITS.len() {
            scaled = scaled.div_ceil(1024);
            unit += 1;
        }
        Self(format!("{scaled}{}", UNITS[unit]))
    }

    /// Value in bytes, rounded up; `None` for text that is no quantity, a negative one, or one beyond u64.
    pub fn bytes(&self) -> Option<u64> {
        const SUFFIXES: [(&str, f64); 12] = [
            ("Ki", 1024.0),
            ("Mi", 1_048_576.0),
            ("Gi", 1_073_741_824.0),
            ("Ti", 1_099_511_627_776.0),
            ("Pi", 1_125_899_906_842_624.0),
            ("Ei", 1_152_921_504_606_846_976.0),
            ("k", 1e3),
            ("M", 1e6),
            ("G", 1e9),
            ("T", 1e12),
            ("P", 1e15),
            ("m", 1e-3),
        ];
        let text = self.0.as_str();
        if let Ok(bytes) = text.parse::<u64>() {
            return Some(bytes);
        }
        let (number, factor) = SUFFIXES
            .iter()
            .find_map(|(suffix, factor)| text.strip_suffix(suffix).map(|number| (number, *factor)))
            .unwrap_or((text, 1.0));
        let well_formed = number.starts_with(|c: char| c.is_ascii_digit() || c == '.' || c == '+');
        let value = number.parse::<f64>().ok()? * factor;
        // 2^64 is the first value that does not fit; a float compares exactly with it.
        (well_formed && value.is_finite() && (0.0..18_446_744_073_709_551_616.0).contains(&value))
            .then(|| value.ceil() as u64)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum IntOrText {
            Int(i64),
            Text(String),
        }
        Ok(match IntOrText::deserialize(deserializer)? {
            IntOrText::Int(int) => Self(int.to_string()),
            IntOrText::Text(text) => Self(text),
        })
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "maxLength": 32,
            "x-kubernetes-validations": [{
                "rule": "isQuantity(string(self)) && !quantity(string(self)).isLessThan(quantity('0'))",
                "message": "write a size as a quantity, such as 512Mi or 8Gi (no space, no \"GB\")",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, bytes) in
            [("8Gi", 8 << 30), ("512Mi", 512 << 20), ("1G", 1_000_000_000), ("1.5Ki", 1536), ("42", 42), ("100m", 1)]
        {
            assert_eq!(Quantity::new(text).bytes(), Some(bytes), "{text}");
        }
    }

    #[test]
    fn other_texts_have_no_value() {
        for text in ["8 GB", "", "-1", "-1Gi", "nan", "inf", "1e40", "Gi"] {
            assert_eq!(Quantity::new(text).bytes(), None, "{text}");
        }
    }

    #[test]
    fn human_sizes_keep_two_to_four_digits() {
        for (bytes, text) in [
            (0, "0"),
            (9_999, "9999"),
            (25_000_000, "24Mi"),
            (1_373_634_592, "1311Mi"),
            (4 << 30, "4096Mi"),
            (20 << 30, "20Gi"),
        ] {
            assert_eq!(Quantity::human(bytes).to_string(), text);
        }
    }
}
