// Package grafana holds a dashboard and alerts for the metrics of package
// otelkafka, and the test that they work. See README.md.
package grafana
