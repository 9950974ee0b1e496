"""The lookups: Huawei Cloud SMN's SMS API, and how its SDKs sign and read."""
