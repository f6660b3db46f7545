# frozen_string_literal: true

require "optparse"

module Kino
  # The command `kino`: serves the app of a rackup file.
  class CLI
    # A mistake of the user's: one line, status 1.
    class Mistake < StandardError; end

    # How many native threads Ruby gives to all Ractors together, where RUBY_MAX_CPU is not set.
    NATIVE_THREADS = 8

    # @param arguments [Array<String>]
    # @return [void] never, but ends the process
    def self.start(arguments = ARGV)
      new(arguments).run
    rescue Mistake, Error, ArgumentError => e
      abort "kino: #{e.message}"
    end

    # @raise [Mistake]
    def initialize(arguments)
      @settings = { port: 9292 }
      @rackup = "config.ru"
      parse(arguments)
    end

    # Serve until a signal; ends the process.
    def run
      check_settings
      ensure_native_threads
      use_every_descriptor
      exit if Server.run(load_app, **@settings) { greet(_1) }

      warn "kino: some requests were not finished in time, and are abandoned"
      exit!(1)
    end

    private

    def parse(arguments)
      rest = parser.parse(arguments)
      raise Mistake, "one rackup file is enough: #{rest.join(' ')}" if rest.size > 1

      @rackup = rest.first || @rackup
    rescue OptionParser::ParseError => e
      raise Mistake, "#{e.message} (kino -h lists the options)"
    end

    def parser
      OptionParser.new("Usage: kino [options] [config.ru]") do |o|
        o.on("-b", "--bind HOST", "address to listen on (default 127.0.0.1)") { set(:bind, _1) }
        o.on("-p", "--port PORT", Integer, "port (default 9292; 0: any)") { set(:port, _1) }
        o.on("-w", "--workers N", Integer, "Ractors, or groups of threads") { set(:workers, _1) }
        o.on("-t", "--threads N", Integer, "threads of each worker") { set(:threads, _1) }
        o.on("-m", "--mode MODE", %i[auto ractor threaded], "auto, ractor or threaded") do |mode|
          set(:mode, mode)
        end
        o.on("--dispatch WAY", Options::DISPATCHES.keys, "queue (default), lanes or inline") do |way|
          set(:dispatch, way)
        end
        o.on("-v", "--version", "print the version") { finish("kino #{VERSION} (#{RUBY_DESCRIPTION})") }
        o.on("-h", "--help", "print this") { finish(o.help) }
      end
    end

    def set(name, value)
      @settings[name] = value
    end

    def finish(text)
      puts text
      exit
    end

    # Before the app is loaded, which may take long.
    def check_settings
      Options.new(**@settings)
      raise Mistake, "there is no rackup file #{@rackup}" unless File.file?(@rackup)
    end

    # Ruby reads RUBY_MAX_CPU at its start; with fewer native threads than workers some Ractors wait
    # for others to sleep.
    def ensure_native_threads
      mode = @settings.fetch(:mode, :auto)
      return if mode == :threaded || (mode == :auto && RUBY_VERSION < "4")

      wanted = (@settings[:workers] || Kino.available_parallelism) * (@settings[:threads] || 1)
      return if wanted <= ENV.fetch("RUBY_MAX_CPU", NATIVE_THREADS).to_i

      # The same command line, with the options of Ruby that were given.
      name, *arguments = File.binread("/proc/self/cmdline").split("\0")
      exec({ "RUBY_MAX_CPU" => wanted.to_s }, [File.readlink("/proc/self/exe"), name], *arguments)
    end

    # The server may use 80 % of the soft limit.
    def use_every_descriptor
      _, hard = Process.getrlimit(:NOFILE)
      Process.setrlimit(:NOFILE, hard, hard)
    end

    def load_app
      require "rack"
      Rack::Builder.parse_file(@rackup)
    rescue SyntaxError => e
      raise Mistake, syntax_error(e.message)
    rescue StandardError, ScriptError => e
      place = e.backtrace&.find { _1.start_with?(@rackup, File.expand_path(@rackup)) }
      raise Mistake, "#{place || @rackup}: #{e.message.lines.first&.chomp} (#{e.class})"
    end

    # Newer parsers say where in the first line, and what below an arrow.
    def syntax_error(message)
      place, *rest = message.lines(chomp: true)
      what = rest.filter_map { _1[/\^~*\s+(\S.*)/, 1] }
      what = what.find { _1.start_with?("unexpected") } || what.first
      what ? "#{place}: #{what}" : place
    end

    def greet(server)
      ruby = [RUBY_VERSION, RUBY_DESCRIPTION[/\+\wJIT/]].compact.join(" ")
      puts "kino #{VERSION} · ruby #{ruby} · mode #{server.mode} · " \
           "workers #{server.workers} × #{server.threads} · dispatch #{server.dispatch} · " \
           "pid #{Process.pid}",
           "listening: #{server.url}"
      $stdout.flush
    end
  end
end
