# frozen_string_literal: true

require "json"
require "open3"

module KinoBench
  # Runs wrk and reads the line of JSON that perf/wrk.lua makes it print.
  class Wrk
    SCRIPT = File.expand_path("../../wrk.lua", __dir__)

    # Latencies are nil when requests are pipelined: wrk then corrects the time of a batch by the
    # rate of requests, and its percentiles are nonsense (a p99 of 0 beside a p50 of 600 us).
    Result = Data.define(:requests, :seconds, :p50_us, :p99_us, :errors)

    def self.version
      Open3.capture2e("wrk", "-v").first[/\d+\.\d+\.\d+/] || "of unknown version"
    rescue Errno::ENOENT
      raise Failure, "wrk is not installed; on Debian: apt-get install wrk"
    end

    def self.parse(output)
      line = output.lines.grep(/\A\{"requests"/).last or
        raise Failure, "wrk gave no summary:\n#{output}"
      summary = JSON.parse(line, symbolize_names: true)
      Result.new(seconds: summary.delete(:duration_us) / 1e6, **summary,
                 errors: summary[:errors].reject { |_, count| count.zero? })
    end

    def initialize(connections:, threads:, pipeline:, cores:)
      @connections = connections
      @threads = threads
      @pipeline = pipeline
      @cores = cores
    end

    def command(url, seconds)
      pin = @cores ? ["taskset", "-c", @cores] : []
      [*pin, "wrk", "-c", @connections, "-t", @threads, "-d", "#{seconds}s", "-s", SCRIPT, url,
       "--", @pipeline].map(&:to_s)
    end

    def run(url, seconds)
      result = self.class.parse(IO.popen(command(url, seconds), err: %i[child out], &:read))
      @pipeline == 1 ? result : result.with(p50_us: nil, p99_us: nil)
    end
  end
end
