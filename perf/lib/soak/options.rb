# frozen_string_literal: true

require "optparse"

module Soak
  # The command line of perf/soak.
  class Options
    attr_reader :minutes, :server, :connections, :wrk_connections, :ruby

    def initialize(arguments)
      @minutes = 5.0
      @server = "kino-uring-inline"
      @connections = 64
      @wrk_connections = 0
      @paths = []
      rest = parser.parse(arguments)
      raise KinoBench::Failure, "unexpected argument #{rest.first.inspect}" if rest.any?
      raise KinoBench::Failure, "--minutes must be above 0" unless minutes.positive?
      raise KinoBench::Failure, "--connections must be at least 1" unless connections.positive?
    rescue OptionParser::ParseError => e
      raise KinoBench::Failure, "#{e.message}; see --help"
    end

    def paths = @paths.empty? ? %w[/plaintext /10k] : @paths

    def help = parser.help

    def help? = @help

    private

    def parser
      @parser ||= OptionParser.new do |o|
        o.banner = "Usage: perf/soak [options]\n" \
                   "Loads a server, sends TERM under load, and counts every request."
        o.on("--minutes N", Float, "how long until TERM (default 5)") { @minutes = _1 }
        o.on("--server NAME", "as for kino-bench (default #{@server})") { @server = _1 }
        o.on("--connections N", Integer, "that count (default 64)") { @connections = _1 }
        o.on("--path PATH", "repeatable (default /plaintext and /10k)") { @paths << _1 }
        o.on("--wrk N", Integer, "connections of wrk beside them (default 0)") do
          @wrk_connections = _1
        end
        o.on("--ruby PATH", "Ruby for the server (default the newest >= 4.0)") { @ruby = _1 }
        o.on("-h", "--help", "show this") { @help = true }
      end
    end
  end
end
