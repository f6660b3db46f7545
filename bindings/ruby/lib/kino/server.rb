# frozen_string_literal: true

require "socket"

module Kino
  # Serves a Rack app.
  #
  #     server = Kino::Server.new(app, port: 9292, workers: 2, mode: :ractor)
  #     server.run # until INT or TERM
  class Server
    # Seconds beyond shutdown_timeout after which a worker that does not come back is given up.
    GRACE = 1

    # @return [:ractor, :threaded] how the app is served
    attr_reader :mode
    # @return [:queue, :lanes, :inline]
    def dispatch = @options.dispatch
    # @return [Integer] Ractors, or groups of threads
    def workers = @options.workers
    # @return [Integer] of a worker
    def threads = @options.threads
    # @return [Integer, nil] where it listens; nil before it does
    attr_reader :port

    # Serve an app until a signal stops it. See {#initialize} and {#run}.
    def self.run(app, **, &) = new(app, **).run(&)

    # @param app [#call]
    # @param bind [String] a host name or address
    # @param port [Integer] 0: any that is free
    # @param workers [Integer] Ractors, or groups of threads; by default the CPUs there are
    # @param threads [Integer] of each worker; by default 1 in mode :ractor, 3 in :threaded
    # @param mode [:auto, :ractor, :threaded] :auto is :ractor on Ruby 4.0 and newer where the app can
    #   be shared, else :threaded, and says why
    # @param dispatch [:queue, :lanes, :inline] :lanes gives each worker a queue of its own; :inline
    #   has the least overhead, but a handler that waits holds up the other clients of its thread
    # @param loops [Integer] threads of the server's own, for dispatch :queue and :lanes; by default
    #   one for every four workers
    # @param queue_depth [Integer] requests that wait for a worker
    # @param queue_timeout [Numeric, nil] seconds; full for that long: 503
    # @param shutdown_timeout [Numeric, nil] seconds that a shutdown waits for requests to finish
    # @param max_connections [Integer, nil] by default 80 % of the limit of open files
    # @param max_body_size [Integer, nil] bytes; more: 413
    # @raise [ArgumentError] naming the setting that cannot be so
    # @raise [UnshareableAppError] in mode :ractor
    def initialize(app, **)
      options = Options.new(**)
      raise ArgumentError, "the app has no method call" unless app.respond_to?(:call)

      @app = app
      @mode = choose_mode(options.mode)
      @options = options.for_mode(@mode)
      @draining = false
    end

    # Listen, and serve on threads and Ractors of its own.
    #
    # @return [self] when every worker is there
    # @raise [Error] naming cause and remedy
    def start
      raise Error, "this server was started before" if @native

      @native = listen
      drain if @draining # a signal came meanwhile
      @port = @native.port
      RackInRactors.prepare if ractors?
      start_crew
      @keeper = Thread.new { keep }
      self
    end

    # Start, and serve until INT, TERM or {#shutdown}. A second signal ends the process at once.
    #
    # @yieldparam server [Server] once it is started
    # @return [Boolean] as {#shutdown}
    def run
      stopping_on_signals do
        start
        yield self if block_given?
        wait
      end
    end

    # Stop accepting, finish what was begun, and stop. Returns when that is done.
    #
    # @return [Boolean] whether every worker came back; else some are stuck in the app
    def shutdown
      drain
      wait
    end

    # @param timeout [Numeric, nil] seconds
    # @return [Boolean, nil] as {#shutdown}; nil while it serves
    def wait(timeout = nil)
      @keeper&.join(timeout)&.value
    end

    # @return [Boolean]
    def running? = @keeper&.alive? || false

    # @return [String] for a client
    def url
      host = @options.bind
      host = "[#{host}]" if host.include?(":") && !host.start_with?("[")
      "http://#{host}:#{port || @options.port}"
    end

    private

    def ractors? = mode == :ractor

    def choose_mode(asked)
      return asked if asked == :threaded
      return share_app if asked == :ractor

      reason = "before Ruby 4.0 Ractors are slower than threads" if RUBY_VERSION < "4"
      reason ||= Shareability.blocker(@app) || Shareability.class_state(@app)
      return share_app unless reason

      warn "kino: mode threaded, as #{reason}"
      :threaded
    end

    def share_app
      @app = Shareability.share(@app)
      :ractor
    end

    # The library takes addresses only; the resolver is Ruby's.
    def numeric_address
      host = @options.bind.delete_prefix("[").delete_suffix("]")
      Addrinfo.getaddrinfo(host, nil, nil, :STREAM).first.ip_address
    rescue SocketError => e
      raise Error, "cannot listen on #{@options.bind}: #{e.message}"
    end

    def listen
      native = Native::Server.new(numeric_address, @options.port, @options.native)
      native.start
      native
    end

    def start_crew
      @crew = Crew.new(@native, @app, workers:, threads:, ractors: ractors?,
                                      inline: @options.inline?)
      @crew.start
    rescue StandardError
      @native.drain(0)
      @native.destroy if @crew.join(GRACE) && @native.wait(GRACE)
      raise
    end

    # Allowed in a trap.
    def drain
      timeout = @options.shutdown_timeout
      @end ||= now + timeout + GRACE if timeout
      @draining = true
      @native&.drain(timeout)
    end

    def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

    # Until workers that do not come back are given up; nil while there is no end.
    def seconds_left = @end && [@end - now, 0].max

    # On a thread of its own: wait for the end, then clear away. What a handler that does not come back
    # has is left alone. A drain that begins ends the wait, which then goes on with an end.
    def keep
      until @native.wait(seconds_left)
        return false if seconds_left&.zero?
      end
      return false unless @crew.join(seconds_left)

      @native.destroy
      true
    end

    def stopping_on_signals
      handler = proc { @draining ? exit!(1) : drain }
      before = %w[INT TERM].to_h { [_1, trap(_1, handler)] }
      yield
    ensure
      before&.each { |signal, old| trap(signal, old || "DEFAULT") }
    end
  end
end
