"""The lookups: Huawei Cloud SMN's SMS API, as its SDKs call it."""
