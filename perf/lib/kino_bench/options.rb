# frozen_string_literal: true

require "optparse"

module KinoBench
  # The command line of kino-bench.
  class Options
    DEFAULT_SERVERS = %w[kino-uring-inline kino-uring-queue kino puma].freeze

    attr_reader :rounds, :duration, :warmup, :connections, :threads, :pipeline, :path, :idle,
                :server_cores, :wrk_cores, :ruby, :json

    def initialize(arguments)
      @servers = []
      @rounds = @duration = 5
      @warmup = 2
      @connections = 64
      @threads = @pipeline = 1
      @idle = 0
      @path = "/plaintext"
      rest = parser.parse(arguments)
      raise Failure, "unexpected argument #{rest.first.inspect}" if rest.any?

      check
    rescue OptionParser::ParseError => e
      raise Failure, "#{e.message}; see --help"
    end

    def servers = @servers.empty? ? DEFAULT_SERVERS : @servers

    def list? = @list

    def install? = @install

    def help = parser.help

    def help? = @help

    private

    def check
      positive = { rounds:, duration:, connections:, threads:, pipeline: }
      name, = positive.find { |_, value| value < 1 }
      raise Failure, "--#{name} must be at least 1" if name
      raise Failure, "--warmup must not be negative" if warmup.negative?
      raise Failure, "--idle must not be negative" if idle.negative?

      Descriptors.check("--connections and --idle together", connections + idle)
      raise Failure, "--connections must not be fewer than --threads" if connections < threads
      raise Failure, "--path must begin with /" unless path.start_with?("/")

      check_servers
      check_json
    end

    def check_servers
      twice = servers.map { _1[/\A[^=]*/] }.tally.find { |_, count| count > 1 }
      raise Failure, "server #{twice.first.inspect} is given twice" if twice
    end

    # Before the minutes of measuring, not after them.
    def check_json
      File.open(json, "a").close unless json.nil? || json == "-"
    rescue SystemCallError => e
      raise Failure, "--json cannot be written: #{e.message}"
    end

    def parser
      @parser ||= OptionParser.new do |o|
        o.banner = "Usage: perf/kino-bench [options]\n" \
                   "Measures HTTP servers beside each other with wrk, in interleaved rounds."
        o.on("--server NAME", "a known server, or 'name=command with %{port}'; repeatable;",
             "%{directory} in it becomes one that holds 64k.bin",
             "(default #{DEFAULT_SERVERS.join(', ')})") { @servers << _1 }
        o.on("--list", "list the known servers and how to install what is missing") { @list = true }
        o.on("--install", "build or install what is missing, then measure") { @install = true }
        o.on("--ruby PATH", "Ruby for all Ruby servers (default the newest >= 4.0)") { @ruby = _1 }
        load_options(o)
        o.on("--json FILE", "write everything measured as JSON; - is stdout") { @json = _1 }
        o.on("-h", "--help", "show this") { @help = true }
      end
    end

    def load_options(o)
      o.on("--rounds N", Integer, "rounds of each server (default 5)") { @rounds = _1 }
      o.on("--duration S", Integer, "seconds of a round (default 5)") { @duration = _1 }
      o.on("--warmup S", Integer, "seconds before the first round (default 2)") { @warmup = _1 }
      o.on("--connections N", Integer, "keep-alive connections (default 64)") { @connections = _1 }
      o.on("--threads N", Integer, "threads of wrk (default 1)") { @threads = _1 }
      o.on("--pipeline N", Integer, "requests sent at once (default 1)") { @pipeline = _1 }
      o.on("--path PATH", "what to ask for (default /plaintext); of static and nginx-static",
           "/64k.bin") { @path = _1 }
      o.on("--idle N", Integer, "idle connections held beside (default 0)") { @idle = _1 }
      o.on("--pin CORES:CORES", /\A([\d,-]+):([\d,-]+)\z/,
           "cores of the servers and of wrk, as taskset -c takes them") do |_, server, wrk|
        @server_cores = server
        @wrk_cores = wrk
      end
    end
  end
end
