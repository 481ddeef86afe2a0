package kafkacluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// A java runs programs of one release of Kafka.
type java struct {
	path string // the java program
	jars string // the directory with Kafka and what it needs
	tmp  string // the directory for its temporary files, or "" for the system's

	archive string // the file with the loaded classes of a broker, see archive.go
	dump    string // the file that a broker writes such an archive to when it stops, or ""
}

var (
	brokerHeap = []string{"-Xms128m", "-Xmx512m"}
	smallHeap  = []string{"-Xmx128m"}
)

// command returns a command that runs a main class. Short-lived or idle as they
// are, these programs start faster with the simple compiler and collector. They
// unpack native libraries for compression into the directory for temporary files,
// and a broker that is killed removes none of them.
func (j java) command(heap []string, args ...string) *exec.Cmd {
	flags := append([]string{
		"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"-Dorg.slf4j.simpleLogger.showDateTime=true",
		"-cp", filepath.Join(j.jars, "*"),
	}, heap...)
	if j.tmp != "" {
		flags = append(flags, "-Djava.io.tmpdir="+j.tmp)
	}
	flags = append(flags, j.sharing(args[0])...)
	return exec.Command(j.path, append(flags, args...)...)
}

// findJava finds java, and the jars of version, which it downloads at need.
func findJava(ctx context.Context, version string) (java, error) {
	if runtime.GOOS == "windows" {
		return java{}, fmt.Errorf("kafkacluster: %w: no signals on %s", ErrUnavailable, runtime.GOOS)
	}
	path, err := exec.LookPath("java")
	if err != nil {
		return java{}, fmt.Errorf("kafkacluster: %w: %w", ErrUnavailable, err)
	}
	// Where no Java is installed, macOS has a program of that name that says so.
	release, err := run(ctx, exec.Command(path, "--version"))
	if err != nil {
		return java{}, fmt.Errorf("kafkacluster: %w: %s --version: %w", ErrUnavailable, path, err)
	}
	jars, err := download(ctx, version)
	if err != nil {
		return java{}, fmt.Errorf("kafkacluster: kafka %s: %w", version, err)
	}
	return java{path: path, jars: jars, archive: archiveOf(jars, release)}, nil
}

// download returns the directory with the jars of version. Maven fills a
// directory of its own, which then takes its place by a rename: so the place
// holds all jars or does not exist, whoever else downloads at the same time.
func download(ctx context.Context, version string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, "gopkg-kafkacluster")
	jars := filepath.Join(cache, "kafka-"+version)
	if _, err := os.Stat(jars); err == nil {
		return jars, nil
	}
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return "", fmt.Errorf("%w: not downloaded yet: %w", ErrUnavailable, err)
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(cache, "download-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := os.WriteFile(filepath.Join(tmp, "pom.xml"), []byte(pom(version)), 0o644); err != nil {
		return "", err
	}
	cmd := exec.Command(mvn, "--quiet", "--batch-mode", "dependency:copy-dependencies",
		"-DincludeScope=runtime", "-DoutputDirectory=jars")
	cmd.Dir = tmp
	if out, err := run(ctx, cmd); err != nil {
		return "", fmt.Errorf("%w: mvn: %w\n%s", ErrUnavailable, err, out)
	}
	err = os.Rename(filepath.Join(tmp, "jars"), jars)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return jars, nil
}

// pom returns a Maven project that depends on all that is wanted of version.
// In Kafka 3 the artifact of the console tools brings in another logger.
func pom(version string) string {
	artifacts := []string{"org.apache.kafka:kafka_2.13:" + version, "org.slf4j:slf4j-simple:1.7.36"}
	if !isVersion3(version) {
		artifacts = append(artifacts, "org.apache.kafka:kafka-tools:"+version)
	}
	var b strings.Builder
	b.WriteString("<project><modelVersion>4.0.0</modelVersion>" +
		"<groupId>local</groupId><artifactId>kafkacluster</artifactId><version>1</version><dependencies>\n")
	for _, a := range artifacts {
		id := strings.Split(a, ":")
		fmt.Fprintf(&b, "<dependency><groupId>%s</groupId><artifactId>%s</artifactId><version>%s</version></dependency>\n",
			id[0], id[1], id[2])
	}
	b.WriteString("</dependencies></project>\n")
	return b.String()
}

func isVersion3(version string) bool { return strings.HasPrefix(version, "3.") }
