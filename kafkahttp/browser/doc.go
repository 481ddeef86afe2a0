// Package browser holds the test of package kafkahttp's page in a real Chromium. It is a
// module of its own, so that a program that uses the library does not download what drives
// the browser.
//
// The test looks for chromium, chromium-browser or google-chrome, and is skipped without
// one, with the reason; with CI=true it fails instead. It checks accessibility with
// axe-core, which npm downloads into the user's cache once. With -screenshots DIR it writes
// what the page looks like, for people to look at. TestPicture with -picture makes the
// picture of README.md again.
package browser
